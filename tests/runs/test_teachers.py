"""Teachers: trained once, found again, refused where they do not fit."""

import dataclasses
import threading
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from craft_jax import files
from craft_jax.config import reader
from craft_jax.errors import CheckpointError
from craft_jax.runs import checkpoint, teachers
from craft_jax.training import train


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A working directory with a finished ERM run of the tiny network."""
    return tmp_path_factory.mktemp("teacher") / "run"


@pytest.fixture
def teacher_run(trained, make_config, digits):
    config = make_config("erm", epochs=1, **{"teacher.cache": "unused"})
    train.train_and_evaluate(config, trained, digits)
    return trained


def test_a_distilling_run_trains_its_teacher_once(make_config, digits, tmp_path):
    runs = {}
    for name, weight in (("a", 1.0), ("b", 0.5)):
        config = make_config("kd", epochs=1, **{"kd.weight": weight})
        runs[name] = train.train_and_evaluate(config, tmp_path / name, digits)
    (cached,) = [p for p in (tmp_path / "teachers").iterdir() if p.is_dir()]
    record = runs["a"]["teacher"]
    assert record == runs["b"]["teacher"]
    result = files.read_json(cached / "results.json")
    assert record["name"] == "tiny"
    assert record["seed"] == 1000
    assert record["checkpoint"] == str(cached)
    for key in ("clean_accuracy", "robust_accuracy", "params_sha256"):
        assert record[key] == result[key]
    assert result["method"] == "erm"
    assert runs["a"]["params_sha256"] != runs["b"]["params_sha256"]


def test_another_recipe_or_other_data_is_another_teacher(make_config, digits):
    config = make_config("kd")

    def path(config, dataset=digits):
        return teachers.cached(config, dataset)[1]

    same = make_config("craft", seed=5, epochs=9, **{"kd.weight": 3.0, "eval.max_examples": 7})
    assert path(same) == path(config)
    for change in (
        {"teacher.seed": 1},
        {"teacher.epochs": 2},
        {"teacher.weight_decay": 0.0},
        {"dtype": "bfloat16"},
    ):
        assert path(make_config("kd", **change)) != path(config), change
    assert path(config, dataclasses.replace(digits, fingerprint="other")) != path(config)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("kd.py", "cifar10-resnet56-seed1000-0a479ab392"),
        ("craft.py:cifar10_cpu", "cifar10-resnet20-seed1000-46d3c453ab"),
        ("kd.py:digits", "cifar10-resnet14-seed1000-5ef56d4f38"),
        ("augmix.py:smoke", "cifar10-resnet8-seed1000-27339b0b0a"),
    ],
)
def test_an_erm_teacher_keeps_its_name(spec, name):
    """Or a version with more keys would train again what lies in caches: names as of 04095f0."""
    config = reader.load(str(Path(__file__).parents[2] / "configs" / spec))
    data = SimpleNamespace(name="cifar10", fingerprint="f" * 64)

    def path():
        return teachers.cached(config, data)[1]

    assert path() == Path("runs/teachers") / name
    config.teacher.method = "augmix"
    robust = path()
    assert robust.name != name and robust == path()
    config.augmix.severity = 5
    assert path() != robust


def test_runs_that_share_a_teacher_need_not_share_anything_else(make_config, digits, tmp_path):
    """Each is valid by itself; mixed, the first's views and the second's evaluation would overlap."""
    first = make_config("kd", epochs=1, **{"views.corruptions": ("brightness",)})
    second = make_config("kd", epochs=1, **{"eval.corruptions": ("brightness",)})
    a = train.train_and_evaluate(first, tmp_path / "a", digits)
    (cached,) = [p for p in (tmp_path / "teachers").iterdir() if p.is_dir()]
    (cached / "results.json").unlink()  # as if it had been stopped before its evaluation
    b = train.train_and_evaluate(second, tmp_path / "b", digits)
    assert a["teacher"]["params_sha256"] == b["teacher"]["params_sha256"]


def test_a_student_does_not_start_as_its_teacher(make_config):
    from craft_jax.config.tree import teacher_config
    from craft_jax.streams import INIT, stream

    config = make_config("kd")
    seeds = [config.seed, teacher_config(config).seed]
    draws = [jax.random.normal(stream(seed, 0, INIT), (8,)) for seed in seeds]
    assert not np.allclose(*draws)


def test_another_teacher_at_a_resume_is_refused(teacher_run, make_config, digits, tmp_path):
    config = make_config("kd", epochs=1, **{"teacher.checkpoint": str(teacher_run)})
    train.train_and_evaluate(config, tmp_path, digits)
    (tmp_path / "results.json").unlink()
    record = files.read_json(tmp_path / "teacher.json")
    files.write_json(tmp_path / "teacher.json", record | {"params_sha256": "other"})
    with pytest.raises(CheckpointError, match="begun with another teacher"):
        train.train_and_evaluate(config, tmp_path, digits)


def test_two_that_start_together_do_not_both_train(make_config, digits, monkeypatch):
    config = make_config("kd")
    inside, most = [], []

    def slow_train(*_):
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.3)
        inside.pop()

    monkeypatch.setattr(train, "_train_teacher", slow_train)
    monkeypatch.setattr(teachers, "load", lambda *_: "teacher")
    threads = [threading.Thread(target=train._trained_teacher, args=(config, digits)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_a_given_teacher_teaches_as_it_was_saved(teacher_run, make_config, digits):
    config = make_config("kd", **{"teacher.checkpoint": str(teacher_run), "teacher.name": "resnet110"})
    teacher = teachers.given(config, digits)
    assert teacher.record["name"] == "tiny"  # what it is, not what config.teacher.name says
    variables, _ = checkpoint.restore_student(teacher_run)
    jax.tree.map(np.testing.assert_array_equal, teacher.variables, variables)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_classes": 7}, "num_classes is 10, the data's 7"),
        (
            {"train_images": np.zeros((72, 24, 24, 3), np.uint8)},
            r"input_shape is \[16, 16, 3\].*\[24, 24, 3\]",
        ),
        ({"evaluation_split": "validation", "fingerprint": "x"}, "config.data.validation"),
    ],
)
def test_a_teacher_that_does_not_fit_stops_the_run(
    teacher_run, make_config, digits, tmp_path, change, message
):
    config = make_config("kd", **{"teacher.checkpoint": str(teacher_run)})
    with pytest.raises(CheckpointError, match=message):
        train.train_and_evaluate(config, tmp_path / "student", dataclasses.replace(digits, **change))
    assert not (tmp_path / "student").exists()


def test_a_teacher_that_is_no_finished_run_is_refused(teacher_run, make_config, digits, tmp_path):
    for directory, message in (
        (tmp_path / "none", "no directory"),
        (tmp_path, r"dataset\.json: no such file"),
    ):
        config = make_config("kd", **{"teacher.checkpoint": str(directory)})
        with pytest.raises(CheckpointError, match=message):
            teachers.given(config, digits)
    result = files.read_json(teacher_run / "results.json")
    files.write_json(teacher_run / "results.json", result | {"status": "stopped"})
    config = make_config("kd", **{"teacher.checkpoint": str(teacher_run)})
    with pytest.raises(CheckpointError, match="stopped"):
        teachers.given(config, digits)
    (teacher_run / "results.json").unlink()
    config = make_config("kd", **{"teacher.checkpoint": str(teacher_run)})
    with pytest.raises(CheckpointError, match="finish the teacher's run"):
        teachers.given(config, digits)


def test_the_teacher_is_frozen_and_not_in_the_students_checkpoint(teacher_run, make_config, digits, tmp_path):
    config = make_config("craft", epochs=1, **{"teacher.checkpoint": str(teacher_run)})
    before = checkpoint.params_sha256(checkpoint.restore_student(teacher_run)[0])
    train.train_and_evaluate(config, tmp_path, digits)
    assert checkpoint.params_sha256(checkpoint.restore_student(teacher_run)[0]) == before
    tree = checkpoint._stored(tmp_path / "checkpoints" / "4")
    assert sorted(tree) == ["memory", "method", "optimizer", "step", "student"]
    assert sorted(tree["method"]) == ["projections"]
