"""Whole runs, on a network and data small enough to train for real: learning, resuming, stopping."""

import dataclasses
import json
import threading

import jax
import numpy as np
import pytest

from craft_jax import files
from craft_jax.errors import ConfigError, DataError, Interrupted, TrainingStopped
from craft_jax.evaluation import correctness, evaluate
from craft_jax.runs import checkpoint, results
from craft_jax.training import batches, interrupt, train
from craft_jax.training.step import make_run
from tests.conftest import some_slow


def test_training_learns_and_writes_a_whole_result(make_config, digits, tmp_path):
    config = make_config("erm", epochs=80, **{"log.every_steps": 20, "log.tensorboard": True})
    result = train.train_and_evaluate(config, tmp_path / "run", digits)
    assert result["clean_accuracy"] > 40  # chance is 10; 72 training images
    on_disk = files.read_json(tmp_path / "run" / "results.json")
    assert on_disk == json.loads(json.dumps(result))
    expected = {"status": "done", "method": "erm", "dataset": "digits", "seed": 0, "nan_count": 0}
    assert {k: result[k] for k in expected} == expected
    assert result["resumed_from"] == []
    assert result["teacher"] is None
    (cells,) = result["corruptions"].values()
    assert cells[:4] == [None] * 4
    assert result["robust_accuracy"] == pytest.approx(cells[4])
    assert result["primary_metric"] == pytest.approx(0.25 * result["clean_accuracy"] + 0.75 * cells[4])
    assert result["config"]["student"]["name"] == "tiny"
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    variables, step = checkpoint.restore_student(tmp_path / "run")
    assert step == 320
    assert checkpoint.params_sha256(variables) == result["params_sha256"]


class Killed(BaseException):
    """Stands in for a signal: nothing in the package catches it."""


def kill_at(monkeypatch, step):
    original = batches.Batches.__call__

    def call(self, number):
        if number == step:
            raise Killed
        return original(self, number)

    monkeypatch.setattr(batches.Batches, "__call__", call)


@pytest.mark.parametrize("method", some_slow(["erm", "crd", "craft"], ["crd"]))
def test_a_run_that_was_stopped_ends_as_one_that_was_not(method, make_config, digits, tmp_path, monkeypatch):
    config = make_config(method)
    whole = train.train_and_evaluate(config, tmp_path / "whole", digits)
    with monkeypatch.context() as patch:
        kill_at(patch, 6)
        with pytest.raises(Killed):
            train.train_and_evaluate(config, tmp_path / "cut", digits)
    assert not (tmp_path / "cut" / "results.json").exists()
    resumed = train.train_and_evaluate(config, tmp_path / "cut", digits)
    assert resumed["resumed_from"] == [4]
    assert resumed["params_sha256"] == whole["params_sha256"]
    assert resumed["corruptions"] == whole["corruptions"]

    def lines(name):
        rows = [json.loads(x) for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]

    assert lines("cut") == lines("whole")
    assert [row["step"] for row in lines("whole")] == list(range(1, 13))


@pytest.mark.parametrize("moment", some_slow(["step", "evaluation"], ["evaluation"]))
def test_a_signal_saves_the_step_and_leaves(make_config, digits, tmp_path, monkeypatch, moment):
    # Evaluated after steps 4, 8 and 12, and logged after 3, 6, 9 and 12.
    config = make_config(
        "erm", **{"eval.clean_every_epochs": 1, "checkpoint.every_steps": 1000, "log.every_steps": 3}
    )
    whole = train.train_and_evaluate(config, tmp_path / "whole", digits)
    with monkeypatch.context() as patch:
        patch.setattr(interrupt, "_asked", threading.Event())
        place, name = (batches.Batches, "__call__") if moment == "step" else (evaluate, "clean_accuracy")
        original, calls = getattr(place, name), iter(range(100))

        def call(*args):
            if next(calls) == (5 if moment == "step" else 0):
                interrupt._asked.set()
            return original(*args)

        patch.setattr(place, name, call)
        step = 6 if moment == "step" else 4  # the evaluation after step 4 is given up, and done on resuming
        with pytest.raises(Interrupted, match=f"from step {step}, which is saved"):
            train.train_and_evaluate(config, tmp_path / "cut", digits)
    assert checkpoint.restore_student(tmp_path / "cut")[1] == step
    assert not (tmp_path / "cut" / "results.json").exists()
    resumed = train.train_and_evaluate(config, tmp_path / "cut", digits)
    assert resumed["resumed_from"] == [step]
    assert resumed["params_sha256"] == whole["params_sha256"]

    def lines(name):
        rows = [json.loads(x) for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]

    expected = lines("whole")
    assert [row["step"] for row in expected if "clean_accuracy" in row] == [4, 8, 12]
    assert [row["epoch"] for row in expected] == [step / 4 for step in (3, 4, 6, 8, 9, 12)]
    assert lines("cut") == expected


def test_a_finished_run_always_says_which_images_were_right(make_config, digits, tmp_path, monkeypatch):
    """Of the student, as its accuracies do; they are written before what marks the run as done."""
    config = make_config("kd", epochs=1)
    with monkeypatch.context() as patch:

        def kill(*args):
            raise Killed

        patch.setattr(train.results, "write", kill)
        with pytest.raises(Killed):
            train.train_and_evaluate(config, tmp_path, digits)
    (teacher,) = (path for path in (tmp_path / "teachers").iterdir() if path.is_dir())
    assert (teacher / "results.npz").exists() and not (teacher / "results.json").exists()
    result = train.train_and_evaluate(config, tmp_path, digits)
    correct = correctness.read(tmp_path / "results.npz")
    assert list(correct) == ["clean", "contrast/5"]
    assert 100 * int(correct["clean"].sum()) / 40 == result["clean_accuracy"]
    assert 100 * int(correct["contrast/5"].sum()) / 40 == result["corruptions"]["contrast"][4]


def test_a_finished_run_is_not_repeated(make_config, digits, tmp_path, monkeypatch):
    config = make_config("erm", epochs=1)
    first = train.train_and_evaluate(config, tmp_path, digits)
    kill_at(monkeypatch, 0)
    monkeypatch.setattr(evaluate, "evaluate", None)
    assert train.train_and_evaluate(config, tmp_path, digits) == json.loads(json.dumps(first))


def test_a_run_cut_between_training_and_result_only_evaluates(make_config, digits, tmp_path, monkeypatch):
    config = make_config("erm", epochs=1)
    first = train.train_and_evaluate(config, tmp_path, digits)
    (tmp_path / "results.json").unlink()
    kill_at(monkeypatch, 0)
    again = train.train_and_evaluate(config, tmp_path, digits)
    assert again["params_sha256"] == first["params_sha256"]
    assert again["corruptions"] == first["corruptions"]


def test_a_loss_that_is_not_finite_stops_the_run(make_config, digits, tmp_path):
    config = make_config("erm", **{"optimizer.learning_rate": 1e18, "checkpoint.every_steps": 1})
    with pytest.raises(TrainingStopped, match=r"stopped at step \d+: .*loss/ce") as stop:
        train.train_and_evaluate(config, tmp_path, digits)
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["status"] == "stopped"
    assert result["nan_count"] == 1
    assert result["stopped_at_step"] == stop.value.facts["stopped_at_step"]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["nan_count"] for row in rows] == [0] * (len(rows) - 1) + [1]
    assert rows[-1]["step"] == result["stopped_at_step"]
    variables, step = checkpoint.restore_student(tmp_path)
    assert step < result["stopped_at_step"]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables))


@pytest.mark.parametrize("every", [1, 5])
def test_bad_steps_are_counted_alike_however_often_it_logs(make_config, digits, tmp_path, every):
    settings = {"optimizer.learning_rate": 1e18, "checkpoint.every_steps": 1000, "log.every_steps": every}
    with pytest.raises(TrainingStopped):
        train.train_and_evaluate(make_config("erm", **settings), tmp_path, digits)
    result = json.loads((tmp_path / "results.json").read_text())
    assert (result["stopped_at_step"], result["nan_count"]) == (2, 1)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last == {"step": 2, "nan_count": 1}


def test_a_missing_reference_or_file_is_said_before_the_training(make_config, digits, tmp_path, monkeypatch):
    kill_at(monkeypatch, 0)
    files = {"eval.source": "cifar10_c", "eval.dir": str(tmp_path)}
    for settings, message in (
        (
            {"eval.reference": str(tmp_path / "nowhere")},
            r"config\.eval\.reference: .*nowhere has no results\.json",
        ),
        (files, r"contrast\.npy is missing"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            train.train_and_evaluate(make_config("erm", **settings), tmp_path / "run", digits)
        assert not (tmp_path / "run").exists()


def test_the_first_lines_name_the_classes_and_those_without_images(make_config, digits, tmp_path, capsys):
    """Labels that begin at 1 make one class too many."""
    config = make_config("erm", epochs=1)
    run, shifted = make_run(config, digits, None, 4), digits.train_labels + 1
    tests = np.minimum(digits.test_labels + 1, 9)
    for dataset, line in (
        (digits, "classes: 10"),
        (
            dataclasses.replace(digits, num_classes=11, train_labels=shifted, test_labels=tests),
            "classes: 11; no training image of class 0; no test image of class 0, 10",
        ),
        (
            dataclasses.replace(digits, num_classes=40, validation_labels=digits.test_labels),
            "classes: 40; no training image of class 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ...; "
            "no validation image of class 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ...",
        ),
    ):
        results.describe(run, tmp_path, dataset, None, 4)
        assert line in capsys.readouterr().out.splitlines()[:5]
