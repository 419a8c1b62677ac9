"""Which Python the scripts take and what they install into it, with stand-ins and no network; the pins."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
CONSTRAINTS = sorted(ROOT.glob("constraints-*.txt"))
PYTHON = """#!/bin/bash
case "$*" in
  -c*) echo {version} ;;
  "-m venv --clear "*) mkdir -p "$4/bin"; touch "$4/pyvenv.cfg"; cp "$0" "$4/bin/python" ;;
  "-m pip install"*) echo "$*" >> pip.log; exit {pip} ;;
esac
"""
SHIM = '#!/bin/bash\necho "pyenv: command not found" >&2\nexit 127\n'
WITHOUT_VENV = "#!/bin/bash\nexit 1\n"


@pytest.fixture
def clone(tmp_path):
    """A copy of what the scripts read, and a PATH that has no Python."""
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    for file in [*ROOT.glob("requirements*.txt"), *CONSTRAINTS]:
        shutil.copy(file, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "cat", "cmp", "cp", "ls", "mkdir", "touch"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def add(clone, name, text):
    path = (clone / "bin" / name).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run(clone, requirements="requirements.txt", path="bin", **environment):
    return subprocess.run(
        ["bash", "-euc", f'set -o pipefail; . launch/setup.sh {requirements}; echo "$PATH"'],
        cwd=clone,
        env={"PATH": ":".join(str(clone / folder) for folder in path.split(":")), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def pip_calls(clone):
    log = clone / "pip.log"
    return log.read_text().splitlines() if log.exists() else []


def fake(version, pip=0):
    return PYTHON.format(version=version, pip=pip)


def test_the_newest_that_runs_is_taken_and_gets_its_own_pins(clone):
    add(clone, "python3.13", SHIM)
    add(clone, "python3.12", WITHOUT_VENV)
    add(clone, "../later/python3.12", fake("3.12"))  # behind a broken one of the same name
    add(clone, "python3.11", fake("3.11"))
    add(clone, "python3", fake("3.10"))
    done = run(clone, path="bin:later")
    assert done.returncode == 0, done.stderr
    assert f"making .venv with Python 3.12, {clone}/later/python3.12" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"{clone}/.venv/bin:")
    (call,) = pip_calls(clone)
    assert call.endswith("-c constraints-3.12.txt -r requirements.txt")


def test_a_plain_python3_counts_by_its_version_and_python_goes_first(clone):
    add(clone, "python3", fake("3.13"))
    add(clone, "python3.12", fake("3.12"))
    assert "with Python 3.13" in run(clone).stdout
    assert "with Python 3.12" in run(clone, VENV="other", PYTHON="python3.12").stdout
    assert [re.search(r"constraints\S+", call)[0] for call in pip_calls(clone)] == [
        "constraints-3.13.txt",
        "constraints-3.12.txt",
    ]


def test_pip_runs_again_only_when_something_has_changed(clone):
    add(clone, "python3", fake("3.11"))
    for _ in range(2):
        assert run(clone).returncode == 0
    assert len(pip_calls(clone)) == 1
    assert run(clone, "requirements-test.txt").returncode == 0  # more than was installed
    assert len(pip_calls(clone)) == 2
    with (clone / "constraints-3.11.txt").open("a") as file:
        file.write("new==1\n")
    assert run(clone).returncode == 0
    assert len(pip_calls(clone)) == 3


def test_an_installation_that_failed_is_tried_again(clone):
    add(clone, "python3", fake("3.11", pip=1))
    assert [run(clone).returncode for _ in range(2)] == [1, 1]
    assert len(pip_calls(clone)) == 2


def test_without_a_supported_python_one_message_and_status_2(clone):
    add(clone, "python3.13", SHIM)
    add(clone, "python3.12", WITHOUT_VENV)
    add(clone, "python3", fake("3.10"))
    for done in (run(clone), run(clone, PYTHON="python3"), run(clone, PYTHON="/no/such/python")):
        assert done.returncode == 2
        (message,) = done.stderr.splitlines()
        assert "needs a Python 3.11, 3.12 or 3.13" in message and "PYTHON=" in message
        assert not (clone / ".venv").exists() and not pip_calls(clone)


@pytest.mark.parametrize(
    ("version", "python", "message"),
    [
        ("3.10", "", "old was made by Python 3.10; 3.11, 3.12 and 3.13 are supported"),
        ("3.11", "python3", "old was made by Python 3.11 and not by PYTHON=python3"),
    ],
)
def test_an_environment_of_another_python_is_refused_and_left_alone(clone, version, python, message):
    add(clone, "python3", fake("3.12"))
    add(clone, "../old/bin/python", fake(version))
    done = run(clone, VENV="old", PYTHON=python)
    assert done.returncode == 2 and message in done.stderr and "VENV=DIR" in done.stderr
    assert not pip_calls(clone)


def test_a_directory_of_other_files_is_not_cleared(clone):
    add(clone, "python3", fake("3.12"))
    done = run(clone, VENV="launch")
    assert done.returncode == 2 and "launch holds other files" in done.stderr
    assert (clone / "launch" / "setup.sh").exists()


def requirements():
    lines = [
        line.split(" #")[0].strip()
        for file in ROOT.glob("requirements*.txt")
        for line in file.read_text().splitlines()
    ]
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda path: path.stem)
def test_pins_lie_within_the_bounds(path):
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", path.read_text(), re.MULTILINE))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    for requirement in requirements():
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pins, f"{name} is not pinned in {path.name}: launch/lock.sh"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} against {requirement}"
        kinds = {specifier.operator for specifier in requirement.specifier}
        assert kinds == {"=="} or {">=", "<"} <= kinds, f"{requirement}: two bounds"


def test_what_pins_and_bounds_leave_out():
    """jaxlib that computes wrongly, crashes or crawls on a CPU, and Orbax with another API."""
    bounds = {requirement.name: requirement.specifier for requirement in requirements()}
    for name in ("jax", "jaxlib"):
        assert not [v for v in ("0.10.2", "0.11.0", "0.11.1") if bounds[name].contains(v)]
    assert not bounds["orbax-checkpoint"].contains("1.0.0")


def test_the_supported_pythons_are_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = SpecifierSet(project["requires-python"])
    pinned = [path.stem.removeprefix("constraints-") for path in CONSTRAINTS]
    assert pinned == [f"3.{minor}" for minor in range(8, 20) if supported.contains(f"3.{minor}.0")]
    searched = re.search(r"for version in (.*); do", (ROOT / "launch" / "pythons.sh").read_text())[1]
    assert searched.split() == pinned[::-1]
