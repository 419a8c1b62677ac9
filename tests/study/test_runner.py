"""The loop of a study, over commands that only pretend: order, failures, signals, time."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from craft_jax import files, streams
from craft_jax.errors import CheckpointError
from craft_jax.study import Arm, Comparison, Study, plan, process, progress, runner, store

# What a run's process does, by the name of its arm; it notes when it began and ended.
PRETEND = """
import json, os, signal, sys, time
arm, workdir, teacher = sys.argv[1:]
note = lambda what: open(os.path.join(workdir, "..", "..", "events"), "a").write(f"{what} {arm}\\n")
if arm.startswith("slow"):
    def leave(*_):
        note("saved")
        sys.exit(75)
    signal.signal(signal.SIGTERM, leave)
note("begin")
if arm == "fails":
    print("craft_jax: config.x: bad\\nallowed: good")
    sys.exit(2)
if arm == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if teacher == "True":
    time.sleep(0.5)
    open(os.path.join(workdir, "teacher.json"), "w").write("{}")
    note("taught")
time.sleep(1.0)
if arm.startswith("slow") and not os.path.exists(os.path.join(workdir, "twice")):
    open(os.path.join(workdir, "twice"), "w").close()
    time.sleep(60)
made = {"status": "done", "teacher": None, "resumed_from": [0], "draws": DRAWS}
json.dump(made, open(os.path.join(workdir, "results.json"), "w"))
note("end")
"""


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """(names, jobs, minutes, seeds) -> (exit status, events, store) of a study whose commands pretend."""

    def command(run, more=()):
        teacher = str(run.config.method == "kd")
        program = PRETEND.replace("DRAWS", repr(streams.DRAWS))
        return [sys.executable, "-c", program, run.arm, str(run.workdir), teacher]

    monkeypatch.setattr(plan.Run, "command", command)

    def go(names, jobs=1, minutes=None, seeds=(0,), file="configs/erm.py:smoke"):
        study = Study({name: Arm(file) for name in names}, seeds, names[0])
        options = SimpleNamespace(study="x.py", out=str(tmp_path / "out"), results=None)
        kept = store.Store(study, "x", "", options, plan.runs(study, options.out))
        kept.write_manifests()
        status = runner.Runner(kept, jobs, minutes).run()
        return status, (tmp_path / "out" / "events").read_text().splitlines(), kept

    return go


def test_a_failed_run_stops_no_other(pretend, capsys):
    status, events, kept = pretend(["a", "fails", "dies", "b"])
    assert status == runner.FAILED
    assert events == ["begin a", "end a", "begin fails", "begin dies", "begin b", "end b"]
    assert list(kept.states.values()) == [progress.DONE, progress.FAILED, progress.FAILED, progress.DONE]
    said = capsys.readouterr()
    assert "failed: fails/seed0: config.x: bad\nallowed: good (status 2;" in said.err
    assert "failed: dies/seed0: no output (signal 9;" in said.err
    assert "2 of 4 done, 0 running, 2 failed, 0 to do" in said.out


def test_a_directory_that_cannot_be_used_stops_no_other(pretend, tmp_path, capsys):
    (tmp_path / "out" / "log" / "seed0" / "log.txt").mkdir(parents=True)
    (tmp_path / "out" / "file").write_text("in its place")
    status, events, kept = pretend(["log", "file", "a"])
    assert status == runner.FAILED and events == ["begin a", "end a"]
    assert list(kept.states.values()) == [progress.FAILED, progress.FAILED, progress.DONE]
    said = capsys.readouterr().err
    assert f"failed: log/seed0: [Errno 21] Is a directory: '{tmp_path}/out/log/seed0/log.txt'" in said
    assert "failed: file/seed0: [Errno 20] Not a directory" in said


def test_so_many_run_at_once(pretend):
    _, events, _ = pretend(["a", "b", "c"], jobs=2)
    assert set(events[:2]) == {"begin a", "begin b"}
    assert events.index("begin c") > min(events.index("end a"), events.index("end b"))


def test_one_trains_the_teacher_that_others_wait_for(pretend):
    _, events, _ = pretend(["a", "b"], jobs=2, file="configs/kd.py:smoke")
    assert events[:3] == ["begin a", "taught a", "begin b"]
    assert events.index("begin b") < events.index("end a")


def test_a_signal_is_passed_on_and_the_same_command_goes_on(pretend, tmp_path, capsys):
    def send():
        while not (tmp_path / "out" / "slow" / "seed0" / "twice").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send, daemon=True).start()
    status, events, kept = pretend(["slow", "b"])
    assert status == 75 and events == ["begin slow", "saved slow"]
    assert list(kept.states.values()) == [progress.WAITING] * 2
    assert "2 runs to do; the same command goes on" in capsys.readouterr().err
    status, events, _ = pretend(["slow", "b"])
    assert status == 0 and events[2:] == ["begin slow", "end slow", "begin b", "end b"]


def test_time_is_kept(pretend):
    began = time.monotonic()
    status, events, _ = pretend(["slow", "b"], minutes=0.1)
    assert status == 75 and events == ["begin slow", "saved slow"]
    assert time.monotonic() - began < 20


def test_the_manifest_says_where_results_lie(pretend, tmp_path):
    pretend(["a", "fails"])
    manifest = json.loads((tmp_path / "out" / "study.json").read_text())
    assert manifest["runs"] == [
        {"arm": "a", "seed": 0, "result": "a/seed0/results.json"},
        {"arm": "fails", "seed": 0, "result": "fails/seed0/results.json"},
    ]


def test_the_machine_is_divided(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    assert process.shares(1) == [({}, None)]
    assert [cores for _, cores in process.shares(2)] == [[0, 1], [2, 3, 4]]
    assert [env["XLA_PYTHON_CLIENT_MEM_FRACTION"] for env, _ in process.shares(3)] == ["0.300"] * 3
    assert [cores for _, cores in process.shares(9)] == [None] * 9


def test_time_left_is_of_measured_steps(tmp_path):
    runs = plan.runs(Study({name: Arm("configs/erm.py:smoke") for name in ("a", "b")}, (0, 1), "a"), tmp_path)
    a0, b0 = runs[:2]  # one epoch each, of batches of 32
    pace = progress.Pace()
    states = dict.fromkeys(runs, progress.WAITING)
    assert pace.seconds(states, {}) is None
    timings = {"images_per_second": 10.0, "process_seconds": 15.0}
    pace.learn(a0, {"timings": timings, "data": {"train_examples": 100}})  # 10 s of steps, 5 s beside
    states[a0] = progress.DONE
    assert pace.seconds(states, {}) == pytest.approx(3 * 15)  # b as a
    b0.workdir.mkdir(parents=True)
    line = {"step": 2, "epoch": 0.5, "images_per_second": 4.0}  # an epoch is 4 steps, 128 images: 32 s
    (b0.workdir / "metrics.jsonl").write_text(json.dumps(line) + '\n{"step": 3, "ep')
    states[b0] = progress.RUNNING
    fractions = {b0: pace.learn_steps(b0)}
    assert fractions == {b0: 0.5}
    assert pace.seconds(states, fractions) == pytest.approx((16 + 5) + 15 + (32 + 5))
    assert "about 0:00:20 left" in progress.counts(states, 40.0, 2)


def test_a_result_that_cannot_be_kept_fails_its_run_alone(pretend, monkeypatch, capsys):
    def full(self, run):
        if run.arm == "a":
            raise OSError(28, "No space left on device")
        return finish(self, run)

    finish = store.Store.finish
    monkeypatch.setattr(store.Store, "finish", full)
    status, events, _ = pretend(["a", "b"])
    assert status == runner.FAILED and events[-1] == "end b"
    assert "failed: a/seed0: done, but its result could not be kept: [Errno 28]" in capsys.readouterr().err


def test_a_directory_in_which_a_process_works_is_waited_for(pretend, tmp_path):
    """As of a study that was killed, whose run is still saving."""
    place = tmp_path / "out" / "a" / "seed0" / ".lock"
    held = threading.Event()

    def hold():
        with files.lock(place, wait=False):
            held.set()
            time.sleep(2)
            (tmp_path / "out" / "events").write_text("let go\n")

    threading.Thread(target=hold, daemon=True).start()
    assert held.wait(10)
    status, events, _ = pretend(["a"])
    assert status == 0 and events == ["let go", "begin a", "end a"]


def test_a_run_ends_with_its_study(tmp_path):
    """A study that dies without a word takes its runs along (Linux)."""
    script = (
        "import sys, time\n"
        "from craft_jax.study.process import Process\n"
        "wait = 'import time; print(1, flush=True); time.sleep(60)'\n"
        "p = Process([sys.executable, '-c', wait], sys.argv[1], {}, None)\n"
        "print(p._process.pid, flush=True); time.sleep(60)\n"
    )
    study = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pid = int(study.stdout.readline())
    wait_for(lambda: (tmp_path / "log.txt").read_text())
    study.kill()
    study.wait()
    wait_for(lambda: not running(pid))


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def running(pid):
    """Whether a process is there and has not ended; one that nobody waits for stays as a zombie."""
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_what_was_planned_stays_so(tmp_path):
    options = SimpleNamespace(study="x.py", out=str(tmp_path / "out"), results=str(tmp_path / "kept"))
    arms = {name: Arm("configs/erm.py:smoke", {"epochs": 1}) for name in ("a", "b")}
    planned = (Comparison("a", "b", "robust"),)

    def make(study, everywhere=()):
        return store.Store(study, "x", "", options, plan.runs(study, options.out, everywhere), everywhere)

    bar = {"bar": {"eval.corruptions": ("ripple",)}}
    make(Study(arms, (0,), "a", planned, bar), [("log.every_steps", "7")]).write_manifests()
    more = arms | {"c": Arm("configs/erm.py:smoke")}
    few = {"few": {"eval.max_examples": 5}}
    make(Study(more, (0, 1), "a", planned, bar | few))  # arms, seeds and evaluations may come
    for other, what in (
        (Study(arms, (0,), "a", (Comparison("b", "a", "robust"),)), "comparisons"),
        (Study(arms, (0,), "b", planned), "baseline"),
        (Study(arms, (0,), "a", planned, {"bar": {"eval.corruptions": ("fog",)}}), "evaluation bar"),
        (
            Study(arms | {"b": Arm("configs/erm.py:smoke", {"epochs": 2})}, (0,), "a", ()),
            "comparisons, arm b",
        ),
    ):
        with pytest.raises(CheckpointError, match=f"a study with other {what};"):
            make(other)
    with pytest.raises(CheckpointError, match=r"a study with other arm [ab], arm [ab];"):
        make(Study(arms, (0,), "a", planned), [("batch_size", "16")])
