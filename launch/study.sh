#!/usr/bin/env bash
# The methods over seeds from one teacher a dataset, then a table. Each run goes on from its last
# checkpoint, so the same command continues a study that was cut off. Further arguments go to every run:
#
#   SEEDS="0 1 2" bash launch/study.sh                                     # the paper's protocol, on a GPU
#   PRESET=cifar10_cpu,matched METHODS="kd craft" bash launch/study.sh --config.data.dir=DIR --config.epochs=5
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/setup.sh requirements.txt

preset="${PRESET:-}"
out="${OUT:-runs/study${preset:+_${preset//,/_}}}"
workdirs=()
for seed in ${SEEDS:-0}; do
  for method in ${METHODS:-erm augmix kd attkd crd craft}; do
    workdir="$out/$method/seed$seed"
    echo "== $workdir"
    python -m craft_jax.main --config="configs/$method.py${preset:+:$preset}" \
      --config.seed="$seed" --workdir="$workdir" "$@"
    workdirs+=("$workdir")
  done
done
python -m craft_jax.report "${workdirs[@]}"
