"""The batch script, with a `srun`, `squeue` and `scontrol` that only note what they are asked for."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "slurm.sbatch"
PRETEND = {
    "srun": 'printf "%s\\n" "$@" >"$NOTES/srun"; sleep "${TAKES:-0}"; exit "$STATUS"',
    "squeue": 'echo "$@" >"$NOTES/squeue"; echo "$STATE"',
    "scontrol": 'echo "$@" >"$NOTES/scontrol"',
}


@pytest.fixture
def start(tmp_path):
    """A function that starts the script as job 12, with variables of the environment."""
    (tmp_path / "bin").mkdir()
    for name, does in PRETEND.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/usr/bin/env bash\n{does}\n")
        program.chmod(0o755)

    def begin(*words, **environment):
        known = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "NOTES": str(tmp_path), "SLURM_JOB_ID": "12"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(["bash", str(SCRIPT), *words], env=known | environment, **pipes)

    return begin


def test_the_command_is_run_by_each_process_of_the_job(start, tmp_path):
    process = start("--config=a b.py", "--workdir=c", PYTHON="my python", STATUS="0", STATE="RUNNING")
    assert process.communicate() == ("", "") and process.returncode == 0
    words = (tmp_path / "srun").read_text().splitlines()
    assert words[words.index("my python") :] == [
        *("my python", "-m", "craft_jax.main", "--config=a b.py", "--workdir=c"),
        "--config.distributed.detect=True",
    ]
    assert not (tmp_path / "scontrol").exists()


@pytest.mark.parametrize(
    ("status", "state", "restarts", "again"),
    [
        ("75", "RUNNING", "", True),
        ("75", "RUNNING", "40", True),
        ("75", "COMPLETING", "", False),  # cancelled, or queued again by SLURM
        ("75", "", "", False),
        ("76", "RUNNING", "", True),
        ("76", "RUNNING", "2", True),
        ("76", "RUNNING", "3", False),
        ("134", "RUNNING", "", True),
        ("137", "RUNNING", "", True),
        ("76", "COMPLETING", "", False),
        ("1", "RUNNING", "", False),
        ("2", "RUNNING", "", False),
        ("3", "RUNNING", "", False),
        ("143", "RUNNING", "", False),
    ],
)
def test_it_queues_itself_again_where_that_helps(start, tmp_path, status, state, restarts, again):
    more = {"SLURM_RESTART_COUNT": restarts} if restarts else {}
    process = start(STATUS=status, STATE=state, **more)
    out, err = process.communicate()
    assert process.returncode == int(status) and not err
    asked = tmp_path / "scontrol"
    assert (asked.read_text() if asked.exists() else "") == ("requeue 12\n" if again else "")
    assert ("job 12 is queued again" in out) == again


def test_it_stays_until_the_run_has_saved(start, tmp_path):
    process = start(TAKES="1", STATUS="75", STATE="RUNNING")
    while not (tmp_path / "srun").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 75 and (tmp_path / "scontrol").read_text() == "requeue 12\n"


def test_without_a_job_it_says_how(start):
    process = start(SLURM_JOB_ID="")
    _, err = process.communicate()
    assert process.returncode == 2 and "sbatch OPTIONS launch/slurm.sbatch" in err
