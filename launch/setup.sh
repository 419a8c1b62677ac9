# Sourced by the other scripts: makes the virtual environment $VENV (.venv) if there is none, installs the
# requirements file that is named, and puts the environment's programs first on PATH.
VENV="${VENV:-.venv}"
PYTHON="${PYTHON:-python3}"
if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then  # none, or one that was not finished
  "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || {
    echo "needs Python 3.11 or 3.12, found $("$PYTHON" --version); set PYTHON=/path/to/python3.11" >&2
    exit 2
  }
  echo "making $VENV"
  "$PYTHON" -m venv --clear "$VENV"
fi
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r "$1"
export PATH="$PWD/$VENV/bin:$PATH"
case "$VENV" in /*) export PATH="$VENV/bin:$PATH" ;; esac
