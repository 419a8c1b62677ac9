#!/usr/bin/env bash
# Prints the supported Pythons on PATH, or $PYTHON alone, newest first and one a version: "3.12 /usr/bin/python3.12".
# One counts if it runs (a shim may answer "command not found") and can make a virtual environment.
set -euo pipefail
probe='import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])'
for version in 3.13 3.12 3.11; do
  names=("python$version" python3)
  [ -z "${PYTHON:-}" ] || names=("$PYTHON")
  while IFS= read -r python; do
    if [ "$("$python" -c "$probe" 2>/dev/null </dev/null)" = "$version" ]; then
      echo "$version $python"
      break
    fi
  done < <(type -aP "${names[@]}")
done
