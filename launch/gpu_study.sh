#!/usr/bin/env bash
# On a GPU, in as many slices of a few minutes as it takes: the tests, the benchmarks, then the paper's table by the
# study runner, fewest epochs first. Offline: it installs nothing (needs requirements-test.txt). All that a next slice
# needs, on a machine that may be another one, is in OUT; the same command goes on from it, with status 75 if there is more.
#
#   bash launch/gpu_study.sh --minutes=9 --data=DIR                # DIR holds CIFAR-10 as TFDS prepared it
#   bash launch/gpu_study.sh --minutes=5 --studies=configs/studies/table2.py:smoke --tests=tests/losses --bench=  # a rehearsal
#
# OUT/tests.txt         pytest's output
# OUT/bench.jsonl       a benchmark a line
# OUT/results/          the runs that are done, as small JSON files, and the teachers
# OUT/state.TIME/       checkpoints of the runs under way, an archive in parts of 15 MB
set -euo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS
minutes=9 data="" out=runs/gpu tests=tests bench="erm kd attkd crd craft"
studies="configs/studies/table2.py:15 configs/studies/table2.py:60 configs/studies/table2.py"
for word in "$@"; do
  case "$word" in
    --minutes=* | --data=* | --out=* | --studies=* | --tests=* | --bench=*)
      key="${word%%=*}" && declare "${key#--}=${word#*=}" ;;
    *) echo "gpu_study.sh: $word: unknown; allowed: --minutes --data --out --studies --tests --bench" >&2 && exit 2 ;;
  esac
done
if ! [[ "$minutes" =~ ^[1-9][0-9]*$ ]]; then
  echo "gpu_study.sh: --minutes=$minutes; allowed: a whole number from 1" >&2 && exit 2
fi
python="${PYTHON:-python}" runs="$out/.runs"
left() { echo $((minutes * 60 - (SECONDS - began))); }
# A slice that was cut off on this machine left more in its runs than the archive has.
state="$(compgen -G "$out/state.*" | sort | tail -n 1 || true)"  # a cut may have left an older one beside it
if [ ! -d "$runs" ] && [ -n "$state" ]; then
  mkdir -p "$runs"
  cat "$state"/tar.* | tar -x -C "$runs" || echo "gpu_study.sh: $state: broken; its runs begin anew"
fi
mkdir -p "$runs"

if [ ! -e "$out/tests.done" ]; then
  echo "== tests"
  # A failure is a finding, not a reason to leave the GPU unused. Several processes share its memory.
  status=0
  XLA_PYTHON_CLIENT_PREALLOCATE=false timeout "$(($(left) / 2))" \
    "$python" -m pytest -n 4 --dist loadfile $tests >"$out/tests.txt" 2>&1 || status=$?
  tail -n 5 "$out/tests.txt"
  if [ "$status" != 124 ]; then echo "$status" >"$out/tests.done"; fi
fi
for method in $bench; do
  if [ ! -e "$out/bench_$method.done" ] && [ "$(left)" -gt 150 ]; then
    echo "== benchmark: the step of $method over its floor"
    if timeout 110 "$python" launch/bench.py step --method="$method" --seconds=20 --json >"$out/bench.txt"; then
      tail -n 1 "$out/bench.txt" >>"$out/bench.jsonl"
      touch "$out/bench_$method.done"
    fi
  fi
done

status=0
for study in $studies; do
  if [ "$(left)" -lt 30 ]; then status=75; fi
  if [ "$status" = 75 ]; then break; fi
  echo "== $study"
  name="${study##*/}"
  "$python" -m craft_jax.study "$study" --out="$runs/${name//[.:]/_}" --results="$out/results" \
    --minutes="$(awk "BEGIN {print ($(left) - 15) / 60}")" --config.checkpoint.keep=1 \
    --config.log.tensorboard=False ${data:+--config.data.dir="$data"} &
  running=$!
  trap 'kill -TERM "$running"' TERM INT
  wait "$running" || true
  while kill -0 "$running" 2>/dev/null; do wait "$running" || true; done  # a signal ends a wait early
  trap - TERM INT
  code=0
  wait "$running" || code=$?  # bash remembers it; the wait that a signal ended returned the signal's
  if [ "$code" != 0 ]; then status="$code"; fi
done

# Runs that are done are in results/ and need no checkpoint.
(cd "$runs" && find . -path './*/*/seed*/results.json' -printf '%h/checkpoints\0' | xargs -0r rm -rf)
rm -rf "$out/new" && mkdir "$out/new"
tar -c -C "$runs" . | split -b 15000000 -d - "$out/new/tar."
old="$(compgen -G "$out/state.*" || true)"
mv "$out/new" "$out/state.$(date +%s%N)"  # the old one goes once this one is there whole
if [ -n "$old" ]; then xargs -d '\n' rm -rf <<<"$old"; fi
ls -l "$out"
exit "$status"
