"""The script for a lent GPU, with a `python` that only notes what it is asked for."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A study makes a run that is done and one that is under way.
PRETEND = """#!/usr/bin/env bash
echo "$@" >>"$NOTES"
case "$*" in
  "-m pytest"*) echo "3 passed"; exit 1 ;;
  *bench.py*) echo "text"; echo "{\\"method\\": \\"$3\\"}" ;;
  *craft_jax.study*)
    for word in "$@"; do case "$word" in --out=*) out="${word#--out=}" ;; esac; done
    if [ -n "${SLOW:-}" ]; then trap 'echo stopped >>"$NOTES"; exit 75' TERM; fi
    mkdir -p "$out"/a/seed0/checkpoints "$out"/a/seed1/checkpoints
    touch "$out"/a/seed0/results.json "$out"/a/seed0/checkpoints/5 "$out"/a/seed1/checkpoints/7
    if [ -n "${SLOW:-}" ]; then sleep 30 & wait; fi
    exit "${STATUS:-0}" ;;
esac
"""


@pytest.fixture
def script(tmp_path):
    """(command, environment, the file of notes) of the script in a folder whose name has a blank."""
    python = tmp_path / "python"
    python.write_text(PRETEND)
    python.chmod(0o755)
    notes = tmp_path / "notes"
    environment = {**os.environ, "PYTHON": str(python), "NOTES": str(notes)}
    words = ["bash", str(ROOT / "launch" / "gpu_study.sh"), "--minutes=5", f"--out={tmp_path / 'my out'}"]
    return words, environment, notes


def run(words, environment, **more):
    return subprocess.run(words, env={**environment, **more}, capture_output=True, text=True, timeout=60)


def test_a_slice_does_everything_once_and_the_next_goes_on_elsewhere(script, tmp_path):
    words, environment, notes = script
    done = run(
        [*words, "--studies=x/one.py:15 x/two.py", "--bench=erm kd", "--data=D"], environment, STATUS="75"
    )
    assert done.returncode == 75, done.stderr
    asked = notes.read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["-m", "launch/bench.py", "launch/bench.py", "-m"]
    out = tmp_path / "my out"
    study = asked[-1].split(" --out=")
    assert study[0] == "-m craft_jax.study x/one.py:15"  # the second has no time left
    assert f"--results={out}/results" in study[1] and "--config.data.dir=D" in study[1]
    assert (out / "tests.txt").read_text() == "3 passed\n" and (out / "tests.done").read_text() == "1\n"
    assert (out / "bench.jsonl").read_text().count("\n") == 2

    # Another machine: what is in OUT but for the hidden folder.
    shutil.rmtree(out / ".runs")
    notes.unlink()
    assert run([*words, "--studies=x/one.py:15 x/two.py", "--bench=erm kd"], environment).returncode == 0
    asked = notes.read_text().splitlines()
    assert [line.split(" --out=")[0] for line in asked] == [
        "-m craft_jax.study x/one.py:15",
        "-m craft_jax.study x/two.py",
    ]
    kept = sorted(
        str(path.relative_to(out / ".runs")) for path in (out / ".runs").rglob("*") if path.is_file()
    )
    assert "one_py_15/a/seed1/checkpoints/7" in kept and "one_py_15/a/seed0/checkpoints/5" not in kept
    assert len(list(out.glob("state.*"))) == 1 and not (out / "new").exists()


def test_a_broken_archive_costs_its_runs_alone(script, tmp_path):
    words, environment, _ = script
    broken = tmp_path / "my out" / "state.1"
    broken.mkdir(parents=True)
    (broken / "tar.00").write_bytes(b"half of one")
    done = run([*words, "--studies=one.py", "--bench="], environment)
    assert done.returncode == 0 and "broken; its runs begin anew" in done.stdout + done.stderr
    assert not broken.exists()


def test_of_two_archives_that_a_cut_left_the_newer_counts(script, tmp_path):
    words, environment, _ = script
    out = tmp_path / "my out"
    assert run([*words, "--studies=one.py", "--bench="], environment).returncode == 0
    (whole,) = out.glob("state.*")
    shutil.copytree(whole, out / "state.1")
    (out / "state.1" / "tar.00").write_bytes(b"older")
    (out / "new").mkdir()  # and a third was being written
    shutil.rmtree(out / ".runs")
    done = run([*words, "--studies=two.py", "--bench="], environment)
    assert done.returncode == 0 and "broken" not in done.stdout + done.stderr
    assert (out / ".runs" / "one_py" / "a" / "seed1" / "checkpoints" / "7").exists()
    assert len(list(out.glob("state.*"))) == 1 and not (out / "new").exists()


def test_a_signal_is_passed_on_and_the_archive_written(script, tmp_path):
    words, environment, notes = script
    process = subprocess.Popen([*words, "--studies=one.py", "--bench="], env={**environment, "SLOW": "1"})
    until = time.monotonic() + 30
    while not list((tmp_path / "my out").rglob("seed1/checkpoints/7")) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1)  # until the script listens: the study does, before it makes a checkpoint
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 75
    assert notes.read_text().splitlines()[-1] == "stopped"
    assert list((tmp_path / "my out").glob("state.*/tar.*"))


@pytest.mark.parametrize("word", ["--minutes=4.5", "--minutes=0", "--nothing=1"])
def test_bad_words_are_told(script, word):
    words, environment, _ = script
    done = run([*words, word], environment)
    assert done.returncode == 2 and word.split("=")[0] in done.stderr
