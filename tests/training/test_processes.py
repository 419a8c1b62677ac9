"""Processes of one run: what they decide together, how they end, how a run goes on with another number."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from craft_jax import files, processes
from craft_jax.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
GONE = "craft_jax: another process of this run is gone; the same command goes on from the last checkpoint\n"

PROGRAM = """
import os, sys
from configs import default
from craft_jax import processes
from craft_jax.errors import ConfigError

def refuse():
    raise ConfigError("config.seed: refused")

@processes.command
def main(argv):
    config = default.get_config("").unlock()
    config.distributed.coordinator, config.distributed.processes = sys.argv[1], 2
    config.distributed.process = me = int(sys.argv[2])
    processes.start(config)
    print("heard of", me)
    print("note: heard of", me, file=sys.stderr)
{body}

sys.exit(main())
"""


@pytest.fixture(autouse=True)
def heeded():
    """What is started here heeds SIGINT, also where a shell's `&`, which ignores it, started pytest."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def pair(address, body, *words):
    """[(status, what is ours of stdout, of stderr)] of two processes that do `body`; further arguments."""
    code = PROGRAM.format(body="".join(f"    {line}\n" for line in body.strip().splitlines()))
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, address, str(me), *words], cwd=ROOT, env=environment, **pipes
        )
        for me in (0, 1)
    ]
    said = [process.communicate(timeout=120) for process in both]
    return [
        (process.returncode, *("".join(own(text)) for text in texts))
        for process, texts in zip(both, said, strict=True)
    ]


def own(text):
    """The lines that are not those of gloo and of JAX's service, nor what gloo said to make ours."""
    lines = text.splitlines(keepends=True)
    ours = [line for line in lines if line.startswith(("craft_jax:", "note:", "heard"))]
    return [re.sub(r"(last checkpoint) \([^\n]*gloo[^\n]*\)", r"\1", line, flags=re.I) for line in ours]


@pytest.mark.parametrize(
    ("cause", "gone"),
    [
        (RuntimeError("Gloo all-reduce failed: Connection closed by peer [127.0.0.1]:1"), True),
        (TimeoutError("Barrier timed out"), True),
        (FileNotFoundError(2, "No such file or directory", "/gloomis/nccl"), False),
        (ConnectionResetError(104, "Connection reset by peer"), False),  # a download
    ],
)
def test_what_says_that_another_process_is_gone(cause, gone):
    try:
        raise DataError("data.dir: cannot be read") from cause
    except DataError as error:
        assert bool(processes._is_of_another(error)) == gone


def test_a_fault_that_the_writer_found_ends_both_and_is_told_once(address):
    body = """
assert processes.decided(lambda: {"writer": me}) == {"writer": 0}
order = []
assert processes.writer_first(order.append, me) is None and order == [me]
assert processes.any_of(me == 1) and not processes.any_of(False)
processes.decided(refuse)
"""
    told = "note: heard of 0\ncraft_jax: config.seed: refused\n"
    assert pair(address, body) == [(2, "heard of 0\n", told), (2, "", "")]


def test_a_process_that_is_killed_ends_the_other_with_a_message(address):
    body = """
assert processes.any_of(True)
if me == 1:
    os.kill(os.getpid(), 9)
while processes.any_of(True):
    pass
"""
    assert pair(address, body) == [(76, "heard of 0\n", "note: heard of 0\n" + GONE), (-9, "", "")]


@pytest.mark.slow
def test_a_fault_of_one_process_alone_is_told_by_that_one(address):
    body = """
assert processes.any_of(True)
if me == 1:
    refuse()
while processes.any_of(True):
    pass
"""
    (writer, _, said), other = pair(address, body)
    assert (writer, said) == (76, "note: heard of 0\n" + GONE)
    assert other == (2, "", "craft_jax: config.seed: refused\n")


@pytest.mark.slow
def test_a_fault_in_common_is_told_once(address):
    told = "note: heard of 0\ncraft_jax: config.seed: refused\n"
    assert pair(address, "refuse()") == [(2, "heard of 0\n", told), (2, "", "")]


# ----------------------------------------------------------------------------------------------------
# The whole command


def command(place, *words):
    return [
        "--config=tests/training/several.py:crd",
        f"--workdir={place / 'run'}",
        f"--config.teacher.cache={place / 'teachers'}",
        *words,
    ]


def begin(words, count):
    """The command as so many processes, by the launcher, or as one by itself."""
    several = ["bash", "launch/local_multiprocess.sh", str(count)]
    alone = [sys.executable, "-m", "craft_jax.main"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHON": sys.executable}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    start = alone if count == 1 else several
    return subprocess.Popen([*start, *words], cwd=ROOT, env=environment, **pipes)


def ended(process):
    """(status, stdout, stderr)"""
    said = process.communicate(timeout=500)
    return (process.returncode, *said)


def logged(place):
    """{step: its metrics}, without that which the clock may leave out."""
    lines = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    left_out = ("step", "images_per_second")
    return {line["step"]: {k: v for k, v in line.items() if k not in left_out} for line in lines}


def wait_for_step(place, step, process):
    path = place / "run" / "metrics.jsonl"
    while not (path.exists() and f'"step": {step},' in path.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def process_of(place, number):
    """The process id of one process of the run in a place."""
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found = words.read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            f"--config.distributed.process={number}".encode() in found
            and f"--workdir={place / 'run'}".encode() in found
        ):
            return int(words.parent.name)
    raise AssertionError(f"no process {number}")


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one_and_each_goes_on_where_the_other_died(tmp_path):
    """Both find one teacher, trained by two processes. One of two is killed, and one goes on alone; then one
    is interrupted, and two go on."""
    one, two = tmp_path / "one", tmp_path / "two"
    longer = ["--config.epochs=8", f"--config.teacher.cache={tmp_path / 'teachers'}"]  # 40 steps
    running = begin(command(two, *longer), 2)
    wait_for_step(two, 9, running)
    killed = time.monotonic()
    os.kill(process_of(two, 1), signal.SIGKILL)
    status, out, err = ended(running)
    assert time.monotonic() - killed < 60
    assert status == 137 and (GONE.strip() in err or "another task died" in err), err
    assert "devices: 2 x cpu (cpu) of 2 processes\n" in out and "banks:   80 rows, 40 on each device" in out

    status, out, err = ended(begin(command(two, *longer), 1))
    assert status == 0 and "resuming from step " in out, err  # 8, or 4 where that was not written yet
    running = begin(command(one, *longer), 1)
    wait_for_step(one, 9, running)
    running.send_signal(signal.SIGTERM)
    assert ended(running)[0] == 75
    status, out, err = ended(begin(command(one, *longer), 2))
    assert status == 0 and "resuming from step " in out, err

    first, second = logged(one), logged(two)
    assert list(first) == list(second) == list(range(1, 41))
    assert all(first[step].keys() == second[step].keys() for step in first)
    for step in range(1, 6):
        for name in first[step]:
            if name.startswith("loss"):
                np.testing.assert_allclose(second[step][name], first[step][name], rtol=1e-5, err_msg=name)
    results = [files.read_json(place / "run" / "results.json") for place in (one, two)]
    assert results[0].keys() == results[1].keys()
    assert results[0]["teacher"]["params_sha256"] == results[1]["teacher"]["params_sha256"]
    images = [files.read_npz(place / "run" / "results.npz") for place in (one, two)]
    for key in ("cells", "examples"):
        np.testing.assert_array_equal(images[0][key], images[1][key])


@pytest.mark.slow
def test_two_processes_evaluate_as_one(tmp_path):
    """A student of five steps: every image is judged alike, and what else is measured is the same up to
    the rounding of logits, which are of half as many images at once."""
    place = tmp_path / "place"
    status, _, err = ended(begin(command(place), 1))
    assert status == 0, err
    found = []
    for name, count in (("one", 1), ("two", 2)):
        words = ["--mode=eval", f"--eval_name={name}", "--config.eval.batch_size=16"]
        status, _, err = ended(begin(command(place, *words), count))
        assert status == 0, err
        result = files.read_json(place / "run" / "eval" / f"{name}.json")
        found.append((result, files.read_npz(place / "run" / "eval" / f"{name}.npz")))
    (one, one_right), (two, two_right) = found
    for key, value in one_right.items():
        np.testing.assert_array_equal(two_right[key], value, err_msg=key)
    assert one["corruptions"] == two["corruptions"] and one["clean_accuracy"] == two["clean_accuracy"]
    one, two = (dict(jax.tree_util.tree_leaves_with_path(result)) for result in (one, two))
    assert one.keys() == two.keys()
    for path, value in one.items():
        assert two[path] == (pytest.approx(value, rel=1e-7) if isinstance(value, float) else value), path


@pytest.mark.slow
def test_a_signal_makes_two_processes_save_the_same_step_and_leave(tmp_path):
    place = tmp_path / "place"
    long = "--config.epochs=80"  # it must not end first, on a busy machine either
    running = begin(command(place, long, "--config.data.max_train=81"), 2)
    wait_for_step(place, 5, running)
    running.send_signal(signal.SIGINT)  # to the launcher, as Ctrl-C
    status, out, err = ended(running)
    assert status == 75, err
    assert "banks:   81 rows, no multiple of 2 devices: each holds them all\n" in out
    (said,) = [line for line in err.splitlines() if "interrupted" in line]
    last = max(logged(place))
    assert f"goes on from step {last}, which is saved" in said
    assert (place / "run" / "checkpoints" / str(last)).is_dir()


# ----------------------------------------------------------------------------------------------------
# The launcher, with a `python` that only notes what it is asked for

PRETEND = """#!/usr/bin/env bash
if [ "$1" = -c ]; then echo 12345; exit; fi
trap 'exit 75' INT  # before the notes say that this process is there
process="$(grep -o 'distributed.process=[0-9]*' <<<"$*")"
echo "$JAX_LOCAL_DEVICE_IDS $*" >>"$NOTES.${process#*=}"
echo "I am ${process#*=}"
if [ "${process#*=}" = "$FAILS" ]; then exit 3; fi
for _ in $(seq "$TURNS"); do sleep 0.1; done
"""


@pytest.fixture
def launcher(tmp_path):
    """(a function that starts the launcher, the stem of the files of notes)"""
    python, notes = tmp_path / "python", tmp_path / "notes"
    python.write_text(PRETEND)
    python.chmod(0o755)

    def start(count, *words, turns=0, fails=""):
        environment = {**os.environ, "PYTHON": str(python), "NOTES": str(notes), "TMPDIR": str(tmp_path)}
        environment |= {"TURNS": str(turns), "FAILS": fails}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        words = ["bash", str(ROOT / "launch" / "local_multiprocess.sh"), count, *words]
        return subprocess.Popen(words, env=environment, **pipes)

    return start, notes


def test_the_launcher_starts_as_many_and_shows_the_first(launcher):
    start, notes = launcher
    assert ended(start("3", "--config=a b.py"))[:2] == (0, "I am 0\n")
    for i in range(3):
        (line,) = Path(f"{notes}.{i}").read_text().splitlines()
        assert line == (
            f"{i} -m craft_jax.main --config=a b.py --config.distributed.process={i} "
            "--config.distributed.coordinator=127.0.0.1:12345 --config.distributed.processes=3"
        )
    status, _, err = ended(start("many"))
    assert status == 2 and "N=many; allowed: " in err


def test_the_launcher_tells_of_the_process_that_fails(launcher):
    start, _ = launcher
    status, out, err = ended(start("2", fails="1"))
    assert (status, out) == (3, "I am 0\n")
    assert "process 1 ended with status 3" in err and err.endswith("I am 1\n")


def test_the_launcher_passes_signals_on(launcher):
    start, notes = launcher
    process = start("2", turns=300)
    while not (Path(f"{notes}.0").exists() and Path(f"{notes}.1").exists()):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 75
