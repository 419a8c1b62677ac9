"""A run on images with a spurious cue: what is measured with it, without it and against it, by a loop."""

import json

import numpy as np
import pytest

from craft_jax import data
from craft_jax.data import cues
from craft_jax.data.dataset import Source, make
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.evaluation import correctness, spurious, workdirs
from craft_jax.report import __main__ as report
from craft_jax.report import measures, summary
from craft_jax.runs import predict
from craft_jax.training import train
from tests.conftest import small_config


def config_of(**overrides):
    cue = {"data.cue": "corner", "data.cue_correlation": 0.8}
    return small_config("erm", **({"epochs": 1, "eval.max_examples": 30} | cue | overrides))


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    """(its directory, its result, its data set), and `data.load` gives that data."""
    arrays = (digits.train_images, digits.train_labels, digits.test_images, digits.test_labels)
    marked, cue = cues.mark(Source(*arrays, 10), "corner", 0.8)
    dataset = make("digits", marked, 0, cue=cue)
    workdir = tmp_path_factory.mktemp("spurious") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda config: dataset)
        yield workdir, train.train_and_evaluate(config_of(), workdir, dataset), dataset


def test_each_condition_and_the_worst_group(run):
    workdir, result, dataset = run
    student, marks = predict.load(workdir), dataset.cue.marks["test"]
    labels, found = dataset.test_labels[:30], result["cue"]

    def right(images):
        return np.argmax(student(images[:30] / np.float32(255)), -1) == labels

    given = right(dataset.test_images)
    reverse = np.array(marks.plain)
    for image, other in zip(reverse, marks.other, strict=True):
        image[:4, :4] = cues.palette(10)[other]
    reverse = right(reverse)
    assert found["as_in_training"] == result["clean_accuracy"] == 100 * given.sum() / 30
    assert found["absent"] == 100 * right(marks.plain).sum() / 30
    assert found["reversed"] == 100 * reverse.sum() / 30
    least, groups = None, {"own": [], "other": []}
    for name in groups:
        for label in range(10):
            hits = [
                (given if name == "own" else reverse)[i]
                for i in range(30)
                if labels[i] == label and (name == "other" or marks.given[i] == label)
            ]
            assert found["examples"][name][label] == len(hits)
            groups[name].append(100 * sum(hits) / len(hits) if hits else None)
    least = min(x for group in groups.values() for x in group if x is not None)
    assert found["worst_group"] == least and found["groups"] == groups
    assert found["groups"][found["worst"]["cue"]][found["worst"]["class"]] == least
    bits = correctness.read(workdir / "results.npz")
    assert list(bits) == ["clean", "cue absent", "cue reversed", "contrast/5"]
    np.testing.assert_array_equal(bits["cue reversed"], reverse)


def test_groups_of_few_images():
    """Two classes; class 1 has no image with its own cue, and is worst against another's."""
    labels, given = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 0])
    right = {"clean": [1, 0, 0, 1, 1], spurious.ABSENT: [1] * 5, spurious.REVERSED: [1, 1, 0, 0, 1]}
    right = {name: np.array(hits, bool) for name, hits in right.items()}
    cells = {name: {"accuracy": 100 * hits.mean()} for name, hits in right.items()}
    found = spurious.figures(cells, right, labels, given, 2)
    assert found["groups"] == {"own": [50.0, None], "other": [pytest.approx(200 / 3), 50.0]}
    assert found["examples"] == {"own": [2, 0], "other": [3, 2]}
    assert found["worst_group"] == 50 and found["worst"] == {"class": 1, "cue": "other"}


def test_other_cues_are_another_run_and_are_not_compared(run, tmp_path):
    workdir, result, _ = run
    with pytest.raises(CheckpointError, match=r"data\.cue_correlation: 0\.8 in the working directory, 0\.5"):
        workdirs.evaluate_workdir(config_of(**{"data.cue_correlation": 0.5}), workdir)
    plain = json.loads(json.dumps(result))
    plain["data"]["fingerprint"] = "of images without"
    (tmp_path / "results.json").write_text(json.dumps(plain))
    with pytest.raises(ConfigError, match=r"results\.json differs in data"):
        workdirs.evaluate_workdir(config_of(**{"eval.reference": str(tmp_path)}), workdir, "against")


def test_a_cue_in_the_report(run, capsys):
    workdir, result, _ = run
    again, _ = workdirs.evaluate_workdir(config_of(), workdir)
    assert again["cue"] == result["cue"]
    assert report.main([str(workdir)]) == 0
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()
    ]
    start = next(i for i, line in enumerate(lines) if line[1:3] == ["cue", "as in training"])
    figures = [f"{result['cue'][k]:.2f}" for k in ("as_in_training", "absent", "reversed", "worst_group")]
    assert lines[start + 2][:6] == [str(workdir), "corner cue 0.8", *figures]
    assert lines[2][2] == "digits with corner cue 0.8"
    assert measures.value(result, "worst_group") == result["cue"]["worst_group"]
    assert measures.value(result, "cue_reversed") == result["cue"]["reversed"]
    assert measures.value(result | {"cue": None}, "cue_absent") is None
    assert "corner cue       as in training (0.8 its own class's) " in summary.text(result)
