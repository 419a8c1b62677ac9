#!/usr/bin/env bash
# Distils a student on a fresh machine, no download but the packages: minutes on 2 CPU cores.
# A second run finishes what is missing and repeats nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/setup.sh requirements.txt
. launch/setup.sh requirements-report.txt

out="${1:-runs/demo}"
run() {
  echo
  echo "== $1"
  python -m craft_jax.main --config="configs/$1.py:digits" --workdir="$out/$1" "${@:2}"
}
run teacher
run erm
run craft --config.teacher.checkpoint="$out/teacher"

echo
python -m craft_jax.report "$out/erm" "$out/craft" "$out/teacher" --out="$out/report"
cat <<TXT

Open $out/report/index.html in a browser; results are in $out/erm/results.json and $out/craft/results.json.
One seed on a small embedded data set: this shows that all works, not which method is better.
Next:
  $VENV/bin/python -m craft_jax.main --config=configs/kd.py:digits     # another method
  $VENV/bin/python -m craft_jax.main --config=configs/craft.py         # the paper's protocol: CIFAR-10, on a GPU
TXT
