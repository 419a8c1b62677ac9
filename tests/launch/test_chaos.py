"""chaos.py counts what it does, and does not call survived what is not."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import files
from craft_jax.evaluation import correctness
from craft_jax.runs import checkpoint
from launch import chaos
from launch.faults import flips, kills

EVERY_FIVE = "--config.checkpoint.every_steps=5"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config=configs/craft.py:smoke", "--n=0"], "--n=0; allowed"),
        (["--config=configs/craft.py:smoke", "--steps=3"], "--steps=3: unknown; allowed"),
        (["kills", "--n=3"], "--config"),
        (["flips", "--n=0"], "--n=0; allowed"),
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


@pytest.mark.slow
def test_flips(tmp_path, capsys):
    assert chaos.main(["flips", "--n=60", f"--out={tmp_path}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "60/60 noticed or harmless"


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
