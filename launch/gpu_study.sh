#!/usr/bin/env bash
# On a GPU, in as many slices of a few minutes as it takes: the tests, the benchmarks, then the paper's table by the
# study runner, fewest epochs first. Offline; nothing is installed. All that a next slice needs, on a machine that may
# be another one, is in OUT; the same command goes on from it.
#
#   bash launch/gpu_study.sh --minutes=9 --data=DIR                # DIR holds CIFAR-10 as TFDS prepared it
#   bash launch/gpu_study.sh --minutes=5 --study=configs/studies/table2.py:smoke --tests=tests/losses --bench=""  # a rehearsal
#
# OUT/tests.txt      pytest's output
# OUT/bench.jsonl    a benchmark a line
# OUT/results/       the runs that are done, as small JSON files, and the teachers
# OUT/state.tar.NN   checkpoints of the runs under way, in parts of 15 MB
set -euo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS
minutes=9 data="" out=runs/gpu study=configs/studies/table2.py:slices tests=tests bench="erm kd attkd crd craft"
for word in "$@"; do
  case "$word" in
    --minutes=* | --data=* | --out=* | --study=* | --tests=* | --bench=*)
      key="${word%%=*}" && declare "${key#--}=${word#*=}" ;;
    *) echo "gpu_study.sh: $word: unknown; allowed: --minutes --data --out --study --tests --bench" >&2 && exit 2 ;;
  esac
done
python="${PYTHON:-python}"
runs="$out/.runs"
mkdir -p "$runs"
left() { echo $((minutes * 60 - (SECONDS - began))); }
if compgen -G "$out/state.tar.*" >/dev/null; then
  cat "$out"/state.tar.* | tar -x -C "$runs"
fi

if [ ! -e "$out/tests.done" ]; then
  echo "== tests"
  # A failure is a finding, not a reason to leave the GPU unused.
  if timeout "$(($(left) / 2))" "$python" -m pytest -n 8 --dist loadfile $tests >"$out/tests.txt" 2>&1; then status=0; else status=$?; fi
  tail -n 5 "$out/tests.txt"
  echo "$status" >"$out/tests.done"
fi
for method in $bench; do
  if [ ! -e "$out/bench_$method.done" ] && [ "$(left)" -gt 120 ]; then
    echo "== benchmark: the step of $method over its floor"
    if timeout 110 "$python" launch/bench.py step --method="$method" --seconds=20 --json | tail -n 1 >>"$out/bench.jsonl"; then
      touch "$out/bench_$method.done"
    fi
  fi
done

echo "== $study"
status=0
"$python" -m craft_jax.study "$study" --out="$runs/study" --results="$out/results" \
  --minutes="$(awk "BEGIN {print ($(left) - 20) / 60}")" --config.checkpoint.keep=1 --config.log.tensorboard=False \
  ${data:+--config.data.dir="$data"} || status=$?
rm -f "$out"/state.tar.*
# Runs that are done are in results/ and need no checkpoint.
find "$runs/study" -path '*/seed*/results.json' -printf '%h/checkpoints\n' | xargs -r rm -rf
tar -c -C "$runs" . | split -b 15000000 -d - "$out/state.tar."
ls -l "$out"
exit "$status"
