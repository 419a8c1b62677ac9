#!/usr/bin/env bash
# Writes constraints-VERSION.txt anew for one Python: what a fresh environment gets within the bounds of
# requirements*.txt today.
#
#   PYTHON=python3.13 bash launch/lock.sh
set -euo pipefail
cd "$(dirname "$0")/.."
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
version="$("${PYTHON:?name the interpreter}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
"$PYTHON" -m venv "$scratch/venv"
pip() { "$scratch/venv/bin/python" -m pip --disable-pip-version-check "$@"; }
pip install --quiet -r requirements-test.txt
pip check
{
  echo "# What the tests run with under Python $version, all of it: requirements-test.txt, which includes the others."
  echo "# Written on $(date +%F) by: PYTHON=python$version bash launch/lock.sh"
  pip freeze
} > "$scratch/constraints"
cp "$scratch/constraints" "constraints-$version.txt"
