"""chaos.py counts what it does, and does not call survived what is not."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import files
from craft_jax.evaluation import correctness
from craft_jax.runs import checkpoint
from launch import chaos
from launch.faults import disk, flips, kills, soak

EVERY_FIVE = "--config.checkpoint.every_steps=5"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config=configs/craft.py:smoke", "--n=0"], "--n=0; allowed"),
        (["--config=configs/craft.py:smoke", "--steps=3"], "--steps=3: unknown; allowed"),
        (["kills", "--n=3"], "--config"),
        (["flips", "--n=0"], "--n=0; allowed"),
        (["disk", "--config=configs/craft.py:smoke", "--steps=3"], "--steps=3: unknown; allowed"),
        (["soak"], "one of --config and --study"),
    ],
)
def test_bad_arguments_are_named(arguments, named, capsys):
    with pytest.raises(SystemExit) as stop:
        chaos.main(arguments)
    assert stop.value.code == 2 and named in capsys.readouterr().err


def finished(directory, bias=0.0, loss=1.5, right=(True, False), **result):
    """A run's directory as `kills.differences` reads it."""
    directory.mkdir()
    with checkpoint.Checkpoints(directory, keep=2) as checkpoints:
        checkpoints.save(43, {"student": {"bias": jnp.full(3, bias)}})
        checkpoints.wait()
    line = {"step": 43, "loss": loss, "images_per_second": np.random.random()}
    (directory / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    files.write_json(directory / "results.json", {"clean_accuracy": 50.0, "date": str(directory)} | result)
    correctness.write(directory / "results.npz", {"clean": np.array(right)})
    return directory


def test_every_part_of_a_run_is_compared(tmp_path):
    whole = finished(tmp_path / "whole")
    assert kills.differences(finished(tmp_path / "same"), whole) == []
    others = [
        ({"bias": np.float32(1e-45)}, "checkpoint: student/bias"),
        ({"loss": 1.5000001}, "metrics: line 0"),
        ({"clean_accuracy": 50.1}, "results: clean_accuracy"),
        ({"right": (True, True)}, "images: clean"),
    ]
    for number, (changed, named) in enumerate(others):
        assert kills.differences(finished(tmp_path / str(number), **changed), whole) == [named]
    assert kills._told([{"kills": ["save"], "differs": ["x"]}, {"kills": ["step"] * 2, "differs": []}]) == 1


def test_a_change_that_nobody_notices_is_counted(tmp_path, monkeypatch):
    """Without checksums a flipped bit would come back as another number: the harness must say so."""
    run = finished(tmp_path / "run")
    whole = {"results.npz": flips._read(run, "results.npz"), "student": None, "checkpoints": None}
    correctness.write(run / "results.npz", {"clean": np.array([False, False])})
    assert flips._one(run, "results.npz", whole["results.npz"]) == "other content, and not a word"
    (run / "results.npz").write_bytes(b"PK")
    assert flips._one(run, "results.npz", whole["results.npz"]) == "noticed"
    monkeypatch.setattr(correctness, "read", lambda path: {}[path])
    assert flips._one(run, "results.npz", whole["results.npz"]).startswith("KeyError")


def test_a_harmed_log_is_counted_apart(tmp_path):
    """Its other lines must stay; a resume that drops them too is no harm to a log alone."""
    run, log = finished(tmp_path / "run"), tmp_path / "run" / "metrics.jsonl"
    good = log.read_text()
    log.write_text(good + good.replace("43", "44"))
    whole = {"metrics.jsonl": flips._read(run, "metrics.jsonl"), "resumes.json": [1]}
    assert len(whole["metrics.jsonl"]) == 2
    for content, told in ((b"\xff" + log.read_bytes(), "log only"), (log.read_bytes(), "harmless")):
        log.write_bytes(content)
        assert flips._asked(run, log.relative_to(run), whole) == told
        log.write_text(good + good.replace("43", "44"))
    log.unlink()
    assert flips._asked(run, log.relative_to(run), whole) == "log only"
    assert flips._asked(run, Path("resumes.json"), whole) == "log only"
    files.write_json(run / "resumes.json", {"steps": [1]})
    assert flips._asked(run, Path("resumes.json"), whole) == "harmless"
    files.write_json(run / "resumes.json", {"steps": [2]})
    assert flips._asked(run, Path("resumes.json"), whole) == "other content, and not a word"


def test_a_disk_that_is_not_named_is_counted():
    def ended(status, text):
        return disk._badly_told(subprocess.CompletedProcess([], status, "", text), "/d")

    good = "note: a\ncraft_jax: /d/run/metrics.jsonl: cannot be written (No space left on device)\n"
    assert ended(2, good) == []
    assert ended(1, good) == ["status 1"]
    assert ended(2, f"Traceback (most recent call last):\n{good}") == ["a traceback"]
    assert ended(2, "craft_jax: full\n") == ["1 messages, of the path: False"]
    assert ended(2, good + good) == ["2 messages, of the path: True"]


def test_what_grows_is_told():
    def samples(memory, files=10, cpu=2.0):
        return [(s, memory(s), files + (s > 900), 7, cpu * s, 1.0) for s in range(0, 1001, 10)]

    rows = soak.table(samples(lambda step: 100.0))
    assert len(rows) == 10 and [row[0] for row in rows] == [100.0 * i for i in range(1, 11)]
    assert [row[4] for row in rows] == [pytest.approx(2.0)] * 10  # milliseconds a step
    assert soak.growth(rows) == ["open_files from 10.0 to 11.0"]
    leaking = soak.table(samples(lambda step: 100.0 + step / 10, files=10))
    assert soak.growth(leaking)[0] == "memory_mib from 115.5 to 195.5"


def test_a_process_is_looked_at(tmp_path):
    own = soak._looked_at(os.getpid())
    assert own[0] > 50 and own[1] >= 3 and own[2] >= 1 and own[3] > 0
    assert soak._looked_at(2**22 + 1) is None  # above the largest number of a process
    (tmp_path / "a").write_bytes(b"0" * 2**20)
    assert soak._size(tmp_path) == 1.0


@pytest.mark.slow
def test_soak(tmp_path, capsys):
    words = ["soak", "--config=configs/erm.py:smoke", "--steps=430", f"--out={tmp_path}"]
    chaos.main(words)  # so few steps may well look as if they grew
    capsys.readouterr()
    rows = json.loads((tmp_path / "soak.json").read_text())["rows"]
    assert 300 < rows[-1][0] <= 430 and len(rows) > 3 and all(len(row) == 6 for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts disks")
def test_disks():
    """In a process of its own, since its mounts are its process's."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "launch/chaos.py", "disk", "--config=configs/erm.py:smoke", "--n=4"]
        done = subprocess.run([*command, f"--out={out}"], capture_output=True, text=True)
    if "no mounts of its own" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "4/4 bit-identical"


@pytest.mark.slow
def test_flips(tmp_path, capsys):
    assert chaos.main(["flips", "--n=60", f"--out={tmp_path}"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    good, asked = re.fullmatch(r"(\d+)/(\d+) noticed or harmless", last).groups()
    assert good == asked and int(asked) > 40


@pytest.mark.slow
def test_kills(tmp_path, capsys):
    words = ["--config=configs/craft.py:smoke", "--n=2", "--seed=3", f"--out={tmp_path}", EVERY_FIVE]
    assert chaos.main(words) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "2/2 bit-identical"
    assert chaos.main(words) == 0, "it goes on, and has nothing left to do"
    assert capsys.readouterr().out.splitlines()[-1] == "2/2 bit-identical"
    shutil.rmtree(tmp_path / "undisturbed")
    with pytest.raises(SystemExit, match="other arguments"):
        chaos.main([*words[:2], "--seed=4", *words[3:]])
