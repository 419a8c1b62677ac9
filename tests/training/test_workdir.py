"""Working directories that a run must refuse: another run's, half a run's, or none that can be written to."""

import dataclasses
import errno
import os
import shutil

import numpy as np
import pytest

from craft_jax import files
from craft_jax.errors import CheckpointError, ConfigError, DataError
from craft_jax.training import train


def test_another_configuration_in_the_same_workdir_is_refused(make_config, digits, tmp_path):
    config = make_config("erm", epochs=1)
    train.train_and_evaluate(config, tmp_path, digits)
    before = (tmp_path / "results.json").read_text()
    changed = make_config("erm", epochs=2, seed=3, **{"eval.batch_size": 8})
    with pytest.raises(CheckpointError) as error:
        train.train_and_evaluate(changed, tmp_path, digits)
    assert "config.epochs: 1 in the working directory, 2 now" in str(error.value)
    assert "config.seed: 0 in the working directory, 3 now" in str(error.value)
    assert "eval.batch_size" not in str(error.value)
    assert (tmp_path / "results.json").read_text() == before


def test_a_half_deleted_directory_is_refused_or_gives_the_same(make_config, digits, tmp_path):
    """Stopped before its result, with one more thing gone: no other run's work may be gone on from."""
    config = make_config("kd", epochs=1)
    whole, half = tmp_path / "whole", tmp_path / "half"
    done = train.train_and_evaluate(config, whole, digits)
    for gone, told in (
        ("config.json", "half/config.json: gone, and .* is there"),
        ("dataset.json", "half/dataset.json: no such file"),
        ("teacher.json", "half/teacher.json: gone; put it back"),
        ("metrics.jsonl", ""),
        ("checkpoints", ""),
    ):
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(whole, half)
        (half / "results.json").unlink()
        (shutil.rmtree if (half / gone).is_dir() else os.unlink)(half / gone)
        before = sorted(half.rglob("*"))
        if told:
            with pytest.raises(CheckpointError, match=told):
                train.train_and_evaluate(config, half, digits)
            assert sorted({*half.rglob("*")} - {half / ".lock"}) == [p for p in before if p.name != ".lock"]
        else:
            again = train.train_and_evaluate(config, half, digits)
            assert again["params_sha256"] == done["params_sha256"]


def test_a_run_holds_its_directory_while_its_teacher_trains(make_config, digits, tmp_path, monkeypatch):
    """Or another could take it meanwhile, and the teacher's hours would be lost."""

    def slow_teacher(config, dataset):
        train.train_and_evaluate(make_config("erm", epochs=1), tmp_path, digits)

    monkeypatch.setattr(train, "_trained_teacher", slow_teacher)
    with pytest.raises(CheckpointError, match="another process is running in it"):
        train.train_and_evaluate(make_config("kd", epochs=1), tmp_path, digits)


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_workdir_that_cannot_be_is_refused_before_any_work(
    make_config, digits, tmp_path, monkeypatch, place
):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(train, "_trained_teacher", None)
    with pytest.raises(CheckpointError, match="file is not a directory"):
        train.train_and_evaluate(make_config("kd"), tmp_path / place, digits)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_workdir_that_cannot_be_written_to_is_refused_before_any_work(
    make_config, digits, tmp_path, monkeypatch
):
    """Not by permissions, which do not hold root: by what stands in the way, and by a full disk."""
    monkeypatch.setattr(train, "_trained_teacher", None)
    config = make_config("kd")
    (tmp_path / "a" / ".lock").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"a: cannot be written to \(Is a directory\)"):
        train.train_and_evaluate(config, tmp_path / "a", digits)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "checkpoints").write_text("mine")
    with pytest.raises(CheckpointError, match=r"b/checkpoints: cannot be written to \(File exists\)"):
        train.train_and_evaluate(config, tmp_path / "b", digits)

    def full(dir):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", full)
    with pytest.raises(CheckpointError, match=r"c: cannot be written to \(No space left on device\)"):
        train.train_and_evaluate(config, tmp_path / "c", digits)
    assert not (tmp_path / "teachers").exists()


def test_a_teachers_cache_that_cannot_be_written_to_is_refused_before_any_work(
    make_config, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(train, "_train_teacher", None)
    (tmp_path / "file").write_text("mine")
    config = make_config("kd", **{"teacher.cache": str(tmp_path / "file" / "teachers")})
    with pytest.raises(CheckpointError, match="teachers: cannot be written to"):
        train.train_and_evaluate(config, tmp_path / "run", digits)


def test_other_data_in_the_same_workdir_is_refused(make_config, digits, tmp_path):
    config = make_config("erm", epochs=1)
    train.train_and_evaluate(config, tmp_path, digits)
    with pytest.raises(CheckpointError, match="fingerprint"):
        train.train_and_evaluate(config, tmp_path, dataclasses.replace(digits, fingerprint="other"))


def test_a_batch_larger_than_the_data_is_refused_before_anything_is_written(make_config, digits, tmp_path):
    config = make_config("erm", batch_size=80)
    with pytest.raises(DataError, match="batch_size: 80"):
        train.train_and_evaluate(config, tmp_path / "run", digits)
    assert not (tmp_path / "run").exists()


def test_a_warm_up_of_all_steps_is_refused_before_any_work(make_config, digits, tmp_path, monkeypatch):
    """0.9 of one epoch is less than the epoch, which the rules ask, and rounds to all of its four steps."""
    monkeypatch.setattr(train, "_trained_teacher", None)
    config = make_config("kd", epochs=1, **{"optimizer.warmup_epochs": 0.9})
    with pytest.raises(ConfigError, match=r"config.optimizer.warmup_epochs: 0.9, all 4 .*: at most 0.75,"):
        train.train_and_evaluate(config, tmp_path / "run", digits)
    assert not (tmp_path / "run").exists()


def test_images_too_large_for_a_resized_crop_are_refused(make_config, digits, tmp_path):
    large = dataclasses.replace(digits, train_images=np.zeros((72, 16, 2897, 3), np.uint8))
    with pytest.raises(DataError, match=r"data.crop: 'resized' of images of \(16, 2897\) .* at most 2896 "):
        train.train_and_evaluate(make_config("erm", **{"data.crop": "resized"}), tmp_path / "run", large)
    assert not (tmp_path / "run").exists()
