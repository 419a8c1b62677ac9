"""Runs as jobs: what SLURM is asked for, by commands that only pretend; jobs of submitit's local executor."""

import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from craft_jax import files
from craft_jax.errors import CraftError
from craft_jax.study import __main__ as command
from craft_jax.study import job, plan, process
from tests.study import test_study

pytest.importorskip("submitit", reason="requirements-cluster.txt is not installed")

ROOT = Path(__file__).resolve().parents[2]

STUDY = '''
"""Does it run?"""
from craft_jax.study import Arm, Study

def get_study(preset=""):
    names = ("erm", "kd", "attkd")
    return Study({name: Arm(f"configs/{name}.py:smoke") for name in names}, (0,), "erm")
'''

# In a study file it is what every job does in place of a run.
PRETEND = '''
"""Does it pretend?"""
import sys
from craft_jax import streams
from craft_jax.study import Arm, Study, plan

RUN = """
import json, os, signal, sys, time
workdir, arm = sys.argv[1:]
begun = os.path.join(workdir, "begun")
first = not os.path.exists(begun)
def save(*_):
    open(os.path.join(workdir, "saved"), "w").close()
    sys.exit(75)

signal.signal(signal.SIGTERM, save)
open(begun, "a").write(f"{sorted(os.sched_getaffinity(0))}\\\\n")
if arm == "fails":
    sys.exit(3)
if arm == "slow" and first:
    time.sleep(60)
made = {"status": "done", "teacher": None, "resumed_from": [0], "draws": DRAWS}
json.dump(made, open(os.path.join(workdir, "results.json"), "w"))
""".replace("DRAWS", repr(streams.DRAWS))

def command(run, more=()):
    return [sys.executable, "-c", RUN, str(run.workdir), run.arm]

plan.Run.command = command

def get_study(preset=""):
    arms = {name: Arm("configs/erm.py:smoke") for name in preset.split(",")}
    return Study(arms, (0,), list(arms)[0])
'''

SBATCH = """#!/usr/bin/env bash
n=$(ls "$NOTES" | grep -c sbatch)
if [ "${REFUSES:-}" ]; then echo "sbatch: error: invalid partition" >&2; exit 1; fi
cp "$1" "$NOTES/sbatch.$n"
echo "Submitted batch job $((n + 7))"
"""
SQUEUE = """#!/usr/bin/env bash
if [ -e "$NOTES/queue" ]; then cat "$NOTES/queue"; else echo "slurm_load_jobs error: $SAYS" >&2; exit 1; fi
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder of a pretended SLURM: `sbatch.N` are the scripts it was given, `queue` is what it shows."""
    folder = tmp_path / "slurm"
    (folder / "bin").mkdir(parents=True)
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("srun", "")):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("NOTES", str(folder))
    return folder


@pytest.fixture
def study(tmp_path):
    """A function that gives the command three arms, of which two share a teacher, and further words."""
    (tmp_path / "study.py").write_text(STUDY)
    return lambda *words: command.main([f"{tmp_path}/study.py", f"--out={tmp_path}/out", *words])


def asked(folder):
    """[the options of each script that SLURM was given]"""
    scripts = sorted(folder.glob("sbatch.*"))
    return [dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", path.read_text(), re.M)) for path in scripts]


def test_a_teacher_is_trained_by_one_job_and_no_run_is_submitted_twice(study, slurm, tmp_path, capsys):
    options = ("--cluster=slurm", "--cluster.partition=gpu", "--cluster.gpus_per_node=1")
    assert study(*options) == 75
    first, later = asked(slurm)
    assert first["array"] == "0-1%2" and "dependency" not in first  # erm and kd
    assert "array" not in later and later["dependency"] == "afterany:7_1"  # attkd, after kd
    for script in (first, later):
        assert script["partition"] == "gpu" and script["gpus-per-node"] == "1" and script["time"] == "60"
        assert script["signal"] == "USR2@90" and script["requeue"] == ""
    assert files.read_json(tmp_path / "out" / ".cluster" / "jobs.json") == {
        **{"erm/seed0": "7_0", "kd/seed0": "7_1", "attkd/seed0": "8"}
    }
    assert "0 of 3 done, 0 running, 3 queued" in capsys.readouterr().out

    (slurm / "queue").write_text("7_0 RUNNING\n7_1 PENDING\n8 PENDING\n")
    assert study(*options) == 75 and len(asked(slurm)) == 2
    said = capsys.readouterr().out
    assert "0 of 3 done, 1 running, 2 queued" in said
    assert re.search(r"erm +running\nkd +queued\nattkd +queued\n", said)

    # kd's job is still there: attkd, whose own was cancelled, waits for it again.
    (slurm / "queue").write_text("7_1 COMPLETING\n")
    assert study(*options, "--dry_run") == 0 and len(asked(slurm)) == 2
    assert re.search(r"erm +failed\nkd +running\nattkd +failed\n", capsys.readouterr().out)
    assert study(*options) == 75
    erm, attkd = asked(slurm)[2:]
    assert "dependency" not in erm and attkd["dependency"] == "afterany:7_1"
    assert "erm/seed0 (" in (said := capsys.readouterr().out) and "7_0_0_log.err" in said


def test_what_a_job_gets_is_pickled(study, slurm, tmp_path):
    study("--cluster=slurm", "--config.epochs=2")
    import cloudpickle

    (path, *_) = sorted((tmp_path / "out" / ".cluster").glob("7_1_submitted.pkl"))
    ours = cloudpickle.loads(path.read_bytes()).function
    assert isinstance(ours, job.Job) and ours._name == "kd/seed0" and ours._everywhere == [("epochs", "2")]


def test_slurm_that_does_not_answer_gets_nothing(study, slurm, monkeypatch, capsys):
    monkeypatch.setenv("REFUSES", "1")
    assert study("--cluster=slurm") == 2
    assert "not submitted: sbatch: error: invalid partition" in capsys.readouterr().err
    monkeypatch.delenv("REFUSES")
    assert study("--cluster=slurm") == 75
    monkeypatch.setenv("SAYS", "Unable to contact slurm controller")
    assert study("--cluster=slurm") == 2 and len(asked(slurm)) == 2
    assert "Unable to contact slurm controller" in capsys.readouterr().err
    monkeypatch.setenv("SAYS", "Invalid job id specified")  # it has forgotten them: nothing is under way
    assert study("--cluster=slurm") == 75 and len(asked(slurm)) == 4


def test_what_is_missing_is_said(study, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert study("--cluster=slurm") == 2
    assert "--cluster=slurm: no sbatch on PATH" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert study("--cluster=local") == 2
    assert "pip install -r requirements-cluster.txt" in capsys.readouterr().err
    assert study("--cluster=slurm", "--cluster.colour=red", "--jobs=2") == 2
    said = capsys.readouterr().err
    assert "--cluster.colour=red: unknown argument" in said and "--jobs, --minutes: allowed without" in said
    assert study("--cluster.partition=gpu") == 2
    assert "--cluster.partition: allowed with --cluster" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def in_a_job(tmp_path, monkeypatch):
    """A function that does what a job of SLURM does for one run; the run pretends."""
    (tmp_path / "pretend.py").write_text(PRETEND)
    monkeypatch.setattr(plan.Run, "command", plan.Run.command)  # undone at the end
    for name, value in (("SUBMITIT_EXECUTOR", "slurm"), ("SLURM_JOB_ID", "9")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")

    def run(arms, name):
        options = SimpleNamespace(study=f"{tmp_path}/pretend.py:{arms}", out=f"{tmp_path}/out", results=None)
        return job.Job(options, [], name, ({}, None))()

    return run


def test_a_job_does_its_own_run_alone(in_a_job, tmp_path):
    assert in_a_job("a,b", "b/seed0") is None
    assert (tmp_path / "out" / "b" / "seed0" / "results.json").exists()
    assert not (tmp_path / "out" / "a").exists()
    with pytest.raises(CraftError, match="fails/seed0 ended with status 1"):
        in_a_job("a,fails", "fails/seed0")


@pytest.mark.parametrize(
    ("number", "state", "again"),
    [
        (signal.SIGUSR2, "RUNNING", True),  # ahead of the time limit
        (signal.SIGTERM, "RUNNING", True),  # preempted, with time to leave
        (signal.SIGTERM, "COMPLETING", False),  # cancelled, or queued again by SLURM itself
    ],
)
def test_a_preempted_job_saves_and_queues_itself_again(in_a_job, slurm, tmp_path, number, state, again):
    """SIGUSR2 is submitit's sign to do so."""
    (slurm / "queue").write_text(f"7_0 RUNNING\n7_1 {state}\n")
    place, heard = tmp_path / "out" / "slow" / "seed0", []

    def send():
        while not (place / "begun").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    before = signal.signal(signal.SIGUSR2, lambda *_: heard.append((place / "saved").exists()))
    try:
        with pytest.raises(CraftError, match="ended with status 75"):  # submitit's own would not return
            in_a_job("slow", "slow/seed0")
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == [True] * again


def test_a_run_leaves_the_signal_to_the_study(tmp_path):
    wait = "import time; print(1, flush=True); time.sleep(60)"
    running = process.Process([sys.executable, "-c", wait], tmp_path, {}, None)
    while not (tmp_path / "log.txt").read_text():
        time.sleep(0.02)
    os.kill(running._process.pid, signal.SIGUSR2)
    time.sleep(0.2)
    assert running.poll() is None
    running.kill()


def local(tmp_path, arms, *words):
    (tmp_path / "pretend.py").write_text(PRETEND)
    return command.main([f"{tmp_path}/pretend.py:{arms}", f"--out={tmp_path}/out", "--cluster=local", *words])


@pytest.fixture
def outside(monkeypatch):
    """Of the commands that pretend, and of the path on which jobs find this package."""
    monkeypatch.setattr(plan.Run, "command", plan.Run.command)
    monkeypatch.chdir(ROOT)


def test_a_local_job(outside, tmp_path, capsys):
    assert local(tmp_path, "a") == 0
    assert "1 of 1 done" in capsys.readouterr().out


@pytest.mark.slow
def test_local_jobs_fail_alone_and_share_the_machine(outside, tmp_path, capsys):
    assert local(tmp_path, "fails,a") == 1
    said = capsys.readouterr()
    assert "failed: fails/seed0: " in said.out and "1 of 2 done" in said.out
    begun = [(tmp_path / "out" / arm / "seed0" / "begun").read_text() for arm in ("fails", "a")]
    if len(os.sched_getaffinity(0)) > 1:
        assert not set(json.loads(begun[0])) & set(json.loads(begun[1]))


def parent_of(word):
    """The process that began the one of whose command a word is."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if word in (path / "cmdline").read_bytes().decode().split("\0"):
                return int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    raise AssertionError(f"no process of {word}")


@pytest.mark.slow
def test_real_runs_share_a_teacher_and_go_on_after_preemption(outside, tmp_path, capsys):
    (tmp_path / "config.py").write_text(test_study.CONFIG)
    (tmp_path / "study.py").write_text(test_study.STUDY.format(config=tmp_path / "config.py"))
    out = tmp_path / "out"

    def preempt():
        metrics = out / "craft" / "seed0" / "metrics.jsonl"
        while not (metrics.exists() and metrics.read_text().count("\n") > 20):
            time.sleep(0.05)
        os.kill(parent_of(f"--workdir={out / 'craft' / 'seed0'}"), signal.SIGUSR2)

    threading.Thread(target=preempt, daemon=True).start()
    words = [f"{tmp_path}/study.py:craft", f"--out={out}", f"--results={tmp_path}/kept", "--cluster=local"]
    assert command.main(words) == 0, capsys.readouterr()
    results = {arm: files.read_json(out / arm / "seed0" / "results.json") for arm in ("erm", "kd", "craft")}
    assert results["craft"]["resumed_from"] != [] and results["erm"]["resumed_from"] == []
    assert results["craft"]["teacher"]["params_sha256"] == results["kd"]["teacher"]["params_sha256"]
    logs = [(out / arm / "seed0" / "log.txt").read_text() for arm in ("kd", "craft")]
    assert sum(log.count("training the teacher first") for log in logs) == 1
    for arm in results:
        assert (out / arm / "seed0" / "eval" / "adapted.json").exists()
    manifest = files.read_json(tmp_path / "kept" / "study_craft.study.json")
    assert [files.read_json(tmp_path / "kept" / run["result"])["status"] for run in manifest["runs"]] == [
        "done"
    ] * 3
    assert command.main(words) == 0  # nothing more to do
    assert "3 of 3 done" in capsys.readouterr().out
