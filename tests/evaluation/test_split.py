"""Which images are evaluated, apart from which are held out: a tiny run that holds 20 of its images out."""

import json

import numpy as np
import pytest

from craft_jax import data, files
from craft_jax.data.dataset import Source, make
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.evaluation import correctness, targets, workdirs
from craft_jax.runs import predict, teachers
from craft_jax.training import train
from tests.conftest import small_config


def config_of(**overrides):
    settings = {"epochs": 2, "data.validation": 20, "eval.clean_every_epochs": 1, "eval.split": "test"}
    return small_config("erm", **(settings | overrides))


@pytest.fixture(scope="module")
def dataset(digits):
    arrays = (digits.train_images, digits.train_labels, digits.test_images, digits.test_labels)
    return make("digits", Source(*arrays, 10), 20)


@pytest.fixture
def run(trained, dataset, monkeypatch):
    """(its directory, its result); `data.load` gives its data."""
    monkeypatch.setattr(data, "load", lambda config: dataset)
    return trained


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("split") / "run"
    return workdir, train.train_and_evaluate(config_of(), workdir, dataset)


def right(workdir, images, labels):
    """How many images the run's student gets right, in percent."""
    logits = predict.load(workdir)(images / np.float32(255))
    return 100 * int((np.argmax(logits, -1) == labels).sum()) / len(labels)


def test_a_run_meets_the_test_set_once_at_its_end(run, dataset):
    workdir, result = run
    assert result["evaluation_split"] == "test" and result["clean_examples"] == result["examples"] == 40
    assert result["clean_accuracy"] == right(workdir, dataset.test_images, dataset.test_labels)
    assert len(correctness.read(workdir / "results.npz")["clean"]) == 40
    assert result["data"]["test_examples"] == 40 and result["data"]["validation_examples"] == 20
    assert result["data"]["train_examples"] == 52
    # While it trains, held-out images alone: none of 40 test images would give these figures.
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    watched = [row["clean_accuracy"] for row in rows if "clean_accuracy" in row]
    assert len(watched) == 2
    assert watched[-1] == right(workdir, dataset.validation_images, dataset.validation_labels)


def test_a_finished_run_is_evaluated_on_either_split(run, dataset):
    workdir, own = run
    found, path = workdirs.evaluate_workdir(config_of(**{"eval.split": "validation"}), workdir)
    assert path.name == "regenerated-split=validation.json"
    assert found["evaluation_split"] == "validation" and found["clean_examples"] == 20
    assert found["clean_accuracy"] == right(workdir, dataset.validation_images, dataset.validation_labels)
    # "" is what it was before there was a choice.
    default, path = workdirs.evaluate_workdir(config_of(**{"eval.split": ""}), workdir)
    assert {k: v for k, v in default.items() if k != "config"} == {
        k: v for k, v in found.items() if k != "config"
    }
    again, _ = workdirs.evaluate_workdir(config_of(), workdir)
    for key in ("evaluation_split", "clean_accuracy", "corruptions"):
        assert again[key] == own[key]
    with pytest.raises(ConfigError, match=r"validation\.json: .* differs in evaluation split, examples;"):
        workdirs.evaluate_workdir(config_of(), workdir, "regenerated-split=validation")


def test_the_splits_of_one_run_are_not_compared(run, dataset):
    workdir, own = run
    wanted = targets.comparable(own)
    assert targets.find_reference(workdir, wanted)["evaluation_split"] == "test"
    config = config_of(**{"eval.split": "validation", "eval.max_examples": 10})
    other = targets.prepare(config, dataset).record
    assert other["evaluation_split"] == "validation" and other["examples"] == 10
    different = {key for key in wanted if key != "cells" and targets.comparable(other)[key] != wanted[key]}
    assert different == {"evaluation split", "examples"}


def test_corruptions_are_drawn_by_the_index_within_what_is_evaluated(dataset):
    for split, name in (("validation", "validation"), ("", "validation"), ("test", "test")):
        images, labels = targets.clean_images(config_of(**{"eval.max_examples": 15}), dataset, None, split)
        np.testing.assert_array_equal(images, getattr(dataset, f"{name}_images")[:15])
        np.testing.assert_array_equal(labels, getattr(dataset, f"{name}_labels")[:15])


def as_of_an_older_version(workdir):
    """Rewrite a run's records as they were before this choice; its test images were then not counted."""
    record = files.read_json(workdir / "dataset.json")
    del record["validation_examples"]
    files.write_json(
        workdir / "dataset.json", record | {"test_examples": 20, "evaluation_split": "validation"}
    )
    config = files.read_json(workdir / "config.json")
    del config["eval"]["split"], config["data"]["size"]
    files.write_json(workdir / "config.json", config)
    result = files.read_json(workdir / "results.json")
    del result["config"]["eval"]["split"]
    files.write_json(workdir / "results.json", result | {"evaluation_split": "validation"})


def test_a_directory_of_an_older_version_goes_on(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda config: dataset)
    workdir = tmp_path / "run"
    first = train.train_and_evaluate(config_of(epochs=1, **{"eval.split": ""}), workdir, dataset)
    as_of_an_older_version(workdir)
    assert train.train_and_evaluate(config_of(epochs=1), workdir, dataset)["status"] == "done"
    assert workdirs.evaluate_workdir(config_of(epochs=1), workdir)[0]["clean_examples"] == 40
    # As a teacher it serves those that hold as many images out, and no other.
    record = teachers.load(workdir, dataset, config_of()).record
    assert record["measured"]["evaluation_split"] == "validation"
    assert record["measured"]["test_examples"] == record["measured"]["clean_examples"] == 20
    assert record["params_sha256"] == first["params_sha256"]
    more = data.record(dataset) | {"validation_examples": 21, "fingerprint": "x"}
    own = data.current(files.read_json(workdir / "dataset.json"))
    with pytest.raises(CheckpointError, match="may have seen"):
        teachers._check_fit(workdir, own, more, False)


def test_a_teachers_accuracy_is_of_its_own_split(run, dataset):
    workdir, _ = run
    measured = teachers.load(workdir, dataset, config_of()).record["measured"]
    assert measured["evaluation_split"] == "test"
    assert measured["test_examples"] == measured["clean_examples"] == 40
