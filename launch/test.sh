#!/usr/bin/env bash
# The whole test suite, on a fresh machine as on a used one; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/setup.sh requirements-test.txt
python -m pytest -n 2 --dist loadfile "$@"
