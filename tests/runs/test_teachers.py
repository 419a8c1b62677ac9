"""Teachers: trained once, found again, refused where they do not fit."""

import dataclasses
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import erm
from craft_jax import data, files
from craft_jax.config import reader, tree
from craft_jax.errors import CheckpointError
from craft_jax.evaluation import workdirs
from craft_jax.runs import checkpoint, predict, teachers
from craft_jax.training import train


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A working directory with a finished ERM run of the tiny network."""
    return tmp_path_factory.mktemp("teacher") / "run"


@pytest.fixture
def teacher_run(trained, make_config, digits):
    """It, evaluated on 10 images."""
    config = make_config("erm", epochs=1, **{"teacher.cache": "unused", "eval.max_examples": 10})
    train.train_and_evaluate(config, trained, digits)
    return trained


@pytest.fixture
def moved(teacher_run, make_config, digits, tmp_path):
    """(student, teacher, configuration): a KD run and the teacher that it was begun with, moved since."""
    config = make_config("kd", epochs=1, **{"teacher.checkpoint": str(teacher_run)})
    student, teacher = tmp_path / "student", tmp_path / "elsewhere" / teacher_run.name
    train.train_and_evaluate(config, teacher_run.parent / "student", digits)
    shutil.copytree(teacher_run.parent / "student", student)
    shutil.copytree(teacher_run, teacher)
    record = files.read_json(student / "teacher.json")
    files.write_json(student / "teacher.json", record | {"checkpoint": str(tmp_path / "gone" / "run")})
    return student, teacher, config


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


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


def test_another_size_is_another_teacher_and_no_size_the_one_there_was():
    config = erm.get_config("digits")
    full, recipe = data.load(config), tree.teacher_recipe(tree.teacher_config(config))
    name = teachers.cached(config, full)[1]
    config.data.size = 16
    small = data.load(config)
    assert tree.teacher_recipe(tree.teacher_config(config)) == recipe  # its images' fingerprint says it
    assert teachers.cached(config, small)[1] != name
    # A teacher of one size is none for another: its input tells, whatever data are allowed.
    for own, other in ((full, small), (small, full)):
        with pytest.raises(CheckpointError, match=r"input_shape is \[(16|32), "):
            teachers._check_fit("DIR", data.record(own), data.record(other), True)


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


def test_another_teacher_is_refused(moved, digits):
    """Whether the run is done or was stopped, and before anything is written."""
    student, teacher, config = moved
    config.teacher.checkpoint = str(shutil.copytree(student, teacher.parent / "other"))  # a finished run too
    for name in ("done", "stopped"):
        if name == "stopped":
            (student / "results.json").unlink()
        before = contents(student)
        with pytest.raises(CheckpointError, match="begun with another teacher"):
            train.train_and_evaluate(config, student, digits)
        assert contents(student) == before, name


def test_a_resumed_run_goes_on_with_its_teacher_where_it_lies_now(moved, digits, capsys):
    student, teacher, config = moved
    (student / "results.json").unlink()
    config.teacher.checkpoint = str(teacher)
    result = train.train_and_evaluate(config, student, digits)
    record = files.read_json(student / "teacher.json")
    assert record["checkpoint"] == str(teacher)
    assert result["teacher"] == record
    assert f"% clean on 10 of 40 test images of digits ({teacher})" in capsys.readouterr().out


def test_a_resumed_run_trains_no_other_teacher_in_place_of_its_own(moved, digits, tmp_path):
    student, _, config = moved
    (student / "results.json").unlink()
    config.teacher.checkpoint = ""
    with pytest.raises(CheckpointError, match=r"config\.teacher\.checkpoint=DIR says where"):
        train.train_and_evaluate(config, student, digits)
    assert not (tmp_path / "teachers").exists()


@pytest.mark.parametrize("how", ["named", "cached", "from another directory"])
def test_evaluation_finds_the_teacher_that_was_moved(moved, digits, tmp_path, monkeypatch, how):
    student, teacher, config = moved
    monkeypatch.setattr(data, "load", lambda config: digits)
    if how == "named":
        config.teacher.checkpoint = str(teacher)
    elif how == "cached":
        config.teacher.checkpoint, config.teacher.cache = "", str(teacher.parent)
    else:
        # Its first run called it elsewhere/run, and so does its configuration; it need not be here.
        begun = files.read_json(student / "config.json")
        begun["teacher"]["checkpoint"] = "elsewhere/run"
        files.write_json(student / "config.json", begun)
        config.teacher.checkpoint = "elsewhere/run"
        monkeypatch.chdir(tmp_path)
        (student / "results.json").unlink()
        train.train_and_evaluate(config, student, digits)
        (tmp_path / "further").mkdir()
        monkeypatch.chdir(tmp_path / "further")
    result, _ = workdirs.evaluate_workdir(config, student)
    assert result["teacher_evaluation"]["clean_accuracy"] is not None


def test_evaluation_says_where_it_looked_and_takes_no_other_teacher(moved, digits, monkeypatch, capsys):
    student, teacher, config = moved
    monkeypatch.setattr(data, "load", lambda config: digits)
    config.teacher.checkpoint, config.teacher.cache = "", str(teacher.parent.parent)
    result, _ = workdirs.evaluate_workdir(config, student)
    note = capsys.readouterr().err
    assert result["teacher_evaluation"] is None
    for place in (teacher.parent.parent / "gone" / "run", teacher.parent.parent / "run"):
        assert f"{place}: no directory" in note
    assert "--config.teacher.checkpoint=DIR" in note
    config.teacher.checkpoint = str(student)
    with pytest.raises(CheckpointError, match="begun with another teacher"):
        workdirs.evaluate_workdir(config, student)
    config.teacher.checkpoint = "nowhere"
    with pytest.raises(CheckpointError, match=r"config\.teacher\.checkpoint: no directory nowhere"):
        workdirs.evaluate_workdir(config, student)


def test_a_teachers_accuracies_say_on_what(teacher_run, make_config, digits):
    record = teachers.load(teacher_run, digits, make_config("kd")).record
    assert record["measured"] == {
        "dataset": "digits",
        "test_examples": 40,
        "source": "regenerated",
        "evaluation_split": "test",
        "clean_examples": 10,
        "examples": 10,
        "evaluated_corruptions": ["contrast"],
        "severities": [5],
    }


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


def test_a_given_teacher_teaches_as_it_was_saved(teacher_run, make_config, digits, tmp_path):
    config = make_config("kd", **{"teacher.checkpoint": str(teacher_run), "teacher.name": "resnet110"})
    teacher = teachers.known(config, tmp_path / "student", digits)
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
        ({"validation_images": np.zeros((1, 16, 16, 3)), "fingerprint": "x"}, "config.data.validation"),
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
            teachers.known(config, tmp_path / "student", digits)
    result = files.read_json(teacher_run / "results.json")
    files.write_json(teacher_run / "results.json", result | {"status": "stopped"})
    config = make_config("kd", **{"teacher.checkpoint": str(teacher_run)})
    with pytest.raises(CheckpointError, match="stopped"):
        teachers.known(config, tmp_path / "student", digits)
    (teacher_run / "results.json").unlink()
    config = make_config("kd", **{"teacher.checkpoint": str(teacher_run)})
    with pytest.raises(CheckpointError, match="finish the teacher's run"):
        teachers.known(config, tmp_path / "student", digits)


def test_a_teacher_of_other_data_has_to_be_allowed(teacher_run, make_config, digits, tmp_path, capsys):
    other = dataclasses.replace(digits, name="npz", fingerprint="x" * 64, source_fingerprint="x" * 64)
    config = make_config("kd", epochs=1, **{"teacher.checkpoint": str(teacher_run)})
    message = r"other data, digits \(.*this run's npz \(fingerprint x{10}\).*teacher\.allow_other_data=True"
    with pytest.raises(CheckpointError, match=message):
        train.train_and_evaluate(config, tmp_path / "student", other)
    assert not (tmp_path / "student").exists()
    config.teacher.allow_other_data = True
    result = train.train_and_evaluate(config, tmp_path / "student", other)
    assert result["teacher"]["other_data"] and result["teacher"]["dataset"] == "digits"
    assert "10 of 40 test images of digits, OTHER DATA than this run's" in capsys.readouterr().out


def test_parts_of_a_data_set_fit_unless_the_teacher_saw_what_is_held_out():
    """Refused exactly where the student's held-out images are among those the teacher was trained on."""

    def part(validation):
        config = erm.get_config("digits")
        config.data.validation = validation
        return data.load(config)

    parts = {size: part(size) for size in (0, 100, 300)}
    for own in parts.values():
        seen = {image.tobytes() for image in own.train_images}
        for other in parts.values():
            leaks = any(image.tobytes() in seen for image in other.validation_images)
            records = data.record(own), data.record(other)
            assert not teachers.is_other(*records)
            if leaks:
                with pytest.raises(CheckpointError, match=r"config\.data\.validation holds out"):
                    teachers._check_fit("DIR", *records, False)
            else:
                teachers._check_fit("DIR", *records, False)


def test_the_teacher_is_frozen_and_not_in_the_students_checkpoint(teacher_run, make_config, digits, tmp_path):
    config = make_config("craft", epochs=1, **{"teacher.checkpoint": str(teacher_run)})
    before = checkpoint.params_sha256(checkpoint.restore_student(teacher_run)[0])
    train.train_and_evaluate(config, tmp_path, digits)
    assert checkpoint.params_sha256(checkpoint.restore_student(teacher_run)[0]) == before
    stored, _ = checkpoint._stored(tmp_path / "checkpoints" / "4")
    assert sorted(stored) == ["memory", "method", "optimizer", "step", "student"]
    assert sorted(stored["method"]) == ["projections"]


def test_a_run_stored_before_a_key_was_added_is_read(teacher_run, make_config, digits, tmp_path):
    """`precision` came later: such a run is used, taught by and found done as the same run."""
    old = tmp_path / "old"
    shutil.copytree(teacher_run, old)
    stored = files.read_json(old / "config.json")
    del stored["precision"]
    files.write_json(old / "config.json", stored)
    images = digits.test_images[:4] / np.float32(255)
    np.testing.assert_array_equal(predict.load(old)(images), predict.load(teacher_run)(images))
    record = teachers.load(old, digits, make_config("kd")).record
    assert record["params_sha256"] == files.read_json(teacher_run / "results.json")["params_sha256"]
    config = make_config("erm", epochs=1, **{"teacher.cache": "unused"})
    assert train.train_and_evaluate(config, old, digits) == files.read_json(teacher_run / "results.json")
    other = make_config("erm", epochs=1, precision="highest", **{"teacher.cache": "unused"})
    with pytest.raises(CheckpointError, match=r"config\.precision: 'default' in the working directory"):
        train.train_and_evaluate(other, old, digits)
