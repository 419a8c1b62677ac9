# Sourced by the other scripts: makes the virtual environment $VENV (.venv) if there is none, with $PYTHON or the
# newest supported Python on PATH; installs the requirements file that is named, at the versions pinned for that
# Python, unless nothing has changed since; and puts the environment's programs first on PATH.
VENV="${VENV:-.venv}"
refuse() {
  echo "$1" >&2
  exit 2
}
if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then  # none, or one that was not finished
  read -r version python < <(bash launch/pythons.sh) || refuse "needs a Python 3.11, 3.12 or 3.13 that runs and has \
venv (Debian: python3-venv), looked at ${PYTHON:-every one on PATH}; set PYTHON=/path/to/python3.13"
  if [ ! -f "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV" 2>/dev/null)" ]; then
    refuse "$VENV holds other files and is no virtual environment: name another directory, VENV=DIR"
  fi
  echo "making $VENV with Python $version, $python"
  "$python" -m venv --clear "$VENV"
fi

minor='import sys; print("%d.%d" % sys.version_info[:2])'
version="$("$VENV/bin/python" -c "$minor")"
way_out="remove it, or name another directory, VENV=DIR"
if [ -n "${PYTHON:-}" ] && [ "$("$PYTHON" -c "$minor")" != "$version" ]; then
  refuse "$VENV was made by Python $version and not by PYTHON=$PYTHON: $way_out"
fi
constraints="constraints-$version.txt"
[ -f "$constraints" ] || refuse "$VENV was made by Python $version; 3.11, 3.12 and 3.13 are supported: $way_out"

installed="$VENV/installed-$1"  # what was asked for when pip last finished
if ! cat "$constraints" requirements*.txt | cmp -s - "$installed"; then
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints" -r "$1"
  cat "$constraints" requirements*.txt > "$installed"
fi
PATH="$(cd "$VENV" && pwd)/bin:$PATH"
export PATH
