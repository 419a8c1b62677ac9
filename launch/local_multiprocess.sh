#!/usr/bin/env bash
# One run as N processes on this machine: each is `python -m craft_jax.main ARGS...`, and they meet on the loopback.
# The output of process 0 is shown, and the end of another's where that one fails.
#
#   bash launch/local_multiprocess.sh 2 --config=configs/craft.py:digits
#   JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=4 bash launch/local_multiprocess.sh 2 ARGS...
#
# With GPUs process I takes number I of them. Ctrl-C and SIGTERM reach all, which save after ten steps at most and leave
# (status 75). Where one fails the others end too, by themselves or after twenty seconds, and the status is that of the
# one that failed first.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! [[ "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  echo "local_multiprocess.sh: N=${1:-}; allowed: a number of processes from 1, then arguments of craft_jax.main" >&2
  exit 2
fi
count="$1"
shift
python="${PYTHON:-python}"
logs="$(mktemp -d)"
port="$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"

export JAX_COORDINATOR_BIND_ADDRESS="127.0.0.1:$port"  # or JAX's service hears every interface
process() {
  JAX_LOCAL_DEVICE_IDS="$1" exec "$python" -m craft_jax.main "${@:2}" --config.distributed.process="$1" \
    --config.distributed.coordinator="127.0.0.1:$port" --config.distributed.processes="$count" </dev/null
}
running=()
reach() { if [ "${#running[@]}" -gt 0 ]; then kill "-$1" "${running[@]}" 2>/dev/null || true; fi; }
trap 'reach INT' INT
trap 'reach TERM' TERM
trap 'reach KILL' EXIT
set -m  # each in a group of its own: Ctrl-C reaches it through the trap, and once
for ((i = 0; i < count; i++)); do
  if [ "$i" = 0 ]; then process "$i" "$@" & else process "$i" "$@" >"$logs/$i.txt" 2>&1 & fi
  running[i]=$!
done
set +m

status=0 failed="" deadline=""
while [ "${#running[@]}" -gt 0 ]; do
  for i in "${!running[@]}"; do
    if kill -0 "${running[$i]}" 2>/dev/null; then continue; fi
    code=0
    wait "${running[$i]}" || code=$?
    unset "running[$i]"
    if [ "$code" = 0 ]; then continue; fi
    # 76 and 134 say that another was gone: that one's status is what tells.
    if [[ "$status" =~ ^(0|76|134)$ ]]; then status="$code" failed="$i"; fi
    deadline="${deadline:-$((SECONDS + 20))}"
  done
  if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then reach KILL; fi
  sleep 0.2 || true
done
if [ "$status" = 75 ] || [ "$status" = 0 ] || [ "$failed" = 0 ]; then
  rm -r "$logs"
else
  echo "local_multiprocess.sh: process $failed ended with status $status; $logs/$failed.txt ends:" >&2
  tail -n 5 "$logs/$failed.txt" >&2
fi
exit "$status"
