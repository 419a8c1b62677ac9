"""What main does with what it was given: which run it begins, what it prints, the status it ends with."""

from pathlib import Path

import pytest

from craft_jax import main
from craft_jax.errors import ConfigError, Interrupted, TrainingStopped
from tests.config.commands import SMOKE, refused

pytestmark = pytest.mark.usefixtures("somewhere")

RESULT = {
    "clean_accuracy": 91.256,
    "robust_accuracy": 60.0,
    "primary_metric": 67.814,
    "source": "regenerated",
    "corruptions": {"contrast": [90.0, None, 50.123, None, None], "jpeg_compression": [None] * 4 + [5.0]},
    "shifted": None,
    "teacher_evaluation": None,
    "against_reference": None,
    "clean": {"nll": 0.5, "ece": 0.1, "confidence_on_errors": 0.6},
    "corrupted": {"nll": 0.5, "ece": 0.1, "confidence_on_errors": 0.6},
}


def test_train_prints_and_returns_0(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(main, "train_and_evaluate", lambda *args: calls.append(args) or RESULT)
    assert main.main([SMOKE, "--workdir=run", "--config.seed=8"]) == 0
    ((config, workdir),) = calls
    assert config.seed == 8 and workdir == "run"
    out, err = capsys.readouterr()
    assert out.endswith(f"results are in {Path('run') / 'results.json'}\n") and err == ""
    assert "91.26%" in out and "67.81" in out


def test_eval_prints_and_returns_0(capsys, monkeypatch):
    def evaluated(config, workdir, name):
        return RESULT, Path(workdir) / "eval" / f"{name}.json"

    monkeypatch.setattr(main, "evaluate_workdir", evaluated)
    assert main.main([SMOKE, "--workdir=run", "--mode=eval", "--eval_name=x-1"]) == 0
    assert capsys.readouterr().out.endswith("results are in run/eval/x-1.json\n")


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "x" * 101])
def test_an_evaluations_name_is_a_file_name(capsys, name):
    (line,) = refused(capsys, SMOKE, "--workdir=run", "--mode=eval", f"--eval_name={name}")
    assert f"--eval_name: {name!r}; allowed: 1 to 100 of letters, digits" in line


def test_an_evaluations_name_is_for_evaluations(capsys):
    (line,) = refused(capsys, SMOKE, "--workdir=run", "--eval_name=x")
    assert line.endswith("--eval_name: only --mode=eval reads it")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (TrainingStopped(7, ["loss/kd", "loss/ce"]), 3, "stopped at step 7: loss/kd, loss/ce not finite"),
        (ConfigError("config.x: bad"), 2, "config.x: bad"),
        (Interrupted(7), 75, "interrupted; the same command goes on from step 7, which is saved"),
    ],
)
def test_exit_status(capsys, monkeypatch, error, status, text):
    def stop(*args):
        raise error

    monkeypatch.setattr(main, "train_and_evaluate", stop)
    assert main.main([SMOKE, "--workdir=run"]) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("craft_jax: ") and text in err
