"""A whole evaluation: sources, teacher, reference; and that no figure depends on batches or devices."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import erm
from craft_jax import data, models
from craft_jax.data import shifted
from craft_jax.data.dataset import Source
from craft_jax.errors import ConfigError
from craft_jax.evaluation import evaluate, metrics, targets
from craft_jax.mesh import make_mesh
from craft_jax.models.resnet import ResNet
from craft_jax.runs import teachers

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("gaussian_noise", "contrast")


@functools.cache
def case():
    """(dataset, student, teacher): 26 random images and two untrained networks of 4 channels."""
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (26, 16, 16, 3)).astype(np.uint8)
    labels = random.integers(0, 3, 26).astype(np.int32)
    dataset = data.make("npz", Source(images, labels, images, labels, 3), 0)
    models.REGISTRY.setdefault("tiny", functools.partial(ResNet, 8, stem=4, widths=(4, 4, 8)))
    model = models.build("tiny", 3, dtype="float32", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    networks = [
        SimpleNamespace(model=model, variables=model.init(jax.random.key(seed), (16, 16, 3)))
        for seed in (0, 1)
    ]
    return dataset, *networks


def make_config(**settings):
    config = erm.get_config("smoke")
    defaults = {"corruptions": NAMES, "severities": (1, 4), "max_examples": 0, "batch_size": 26}
    config.eval.update(defaults | settings)
    config.log.progress = False
    return config


def run(files=None, reference=None, with_teacher=True, **settings):
    dataset, *networks = case()
    mesh = make_mesh()
    pairs = [(evaluate.predictor(n.model, mesh), n.variables) for n in networks]
    config = make_config(**settings)
    record = targets.prepare(config, dataset).record
    wanted = targets.Targets(files, record, reference)
    teacher = pairs[1] if with_teacher else None
    return evaluate.evaluate(pairs[0], dataset, config, mesh, wanted, teacher).result


@pytest.fixture(scope="module")
def whole():
    return run()


def close(found, wanted):
    """Equal trees; floats up to rounding. Accuracies of 26 images are 3.8 apart: one flip would show."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        return all(close(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(close, found, wanted))
    if isinstance(wanted, float):
        return found == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    return found == wanted


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_no_figure_depends_on_the_batch_size(whole, batch_size):
    assert close(run(batch_size=batch_size), whole)


PROGRAM = """
import json, sys
sys.path.insert(0, {tests!r})
import jax, test_evaluate
print(json.dumps([jax.device_count(), test_evaluate.run(batch_size=7)]))
"""


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="compares with virtual CPU devices")
def test_no_figure_depends_on_the_number_of_devices(whole):
    devices = 3 if jax.device_count() == 2 else 2
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", PROGRAM.format(tests=str(Path(__file__).parent))]
    process = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == 0, process.stderr
    count, found = json.loads(process.stdout)
    assert count == devices
    assert close(found, json.loads(json.dumps(whole)))


def test_the_bins_are_those_of_the_calibration_error(whole):
    for images, cells in (("clean", 1), ("corrupted", 2 * len(NAMES))):
        bins = whole["calibration_bins"][images]
        assert sum(bins["count"]) == 26 * cells
    bins = whole["calibration_bins"]["clean"]
    gaps = [abs(right - sure) for right, sure in zip(bins["correct"], bins["confidence"], strict=True)]
    assert sum(gaps) / 26 == pytest.approx(whole["clean"]["ece"], abs=1e-4)


def test_two_evaluations_are_identical(whole):
    assert run() == whole


def test_the_teacher_is_measured_on_the_same_images(whole):
    """What the teacher's own evaluation gives, and the agreement counted by hand."""
    dataset, student, teacher = case()
    mesh = make_mesh()
    swapped = evaluate.evaluate(
        (evaluate.predictor(teacher.model, mesh), teacher.variables),
        *(dataset, make_config(), mesh, targets.prepare(make_config(), dataset)),
    ).result
    measured = dict(whole["teacher_evaluation"])
    agreement = measured.pop("agreement")
    assert measured == {key: swapped[key] for key in measured}
    pairs = [(evaluate.predictor(n.model, mesh), n.variables) for n in (student, teacher)]
    same = {}
    for cell in ((None, None), *((name, s) for name in NAMES for s in (1, 4))):
        a, b = evaluate.logits_of(pairs, dataset.test_images, 26, mesh, *cell)
        same[cell] = 100 * sum(x.argmax() == y.argmax() for x, y in zip(a, b, strict=True)) / 26
    assert agreement["clean"] == pytest.approx(same.pop((None, None)))
    assert agreement["corrupted"] == pytest.approx(sum(same.values()) / 4)


def test_several_in_one_pass_as_each_by_itself(whole, monkeypatch):
    """Two students, one of them the other's teacher: what all are shown is made once."""
    dataset, *networks = case()
    mesh, config = make_mesh(), make_config()
    student, teacher = [(evaluate.predictor(n.model, mesh), n.variables) for n in networks]
    wanted = targets.prepare(config, dataset)
    alone = evaluate.evaluate(teacher, dataset, config, mesh, wanted)
    made, shown = [], evaluate.shown
    monkeypatch.setattr(evaluate, "shown", lambda *args: made.append(args[3:]) or shown(*args))
    subjects = [evaluate.Subject(student, config, teacher), evaluate.Subject(teacher, config)]
    first, second = evaluate.evaluate_each(subjects, dataset, config, mesh, wanted)
    assert len(made) == len(set(made)) == 1 + 2 * len(NAMES)
    assert first.result == whole and second.result == alone.result
    assert {cell: bits.tolist() for cell, bits in second.correct.items()} == {
        cell: bits.tolist() for cell, bits in alone.correct.items()
    }
    assert second.result["clean"] != first.result["clean"]


def test_the_teacher_is_left_out_where_asked(whole):
    found = run(teacher=False)
    assert found["teacher_evaluation"] is None
    assert found == run(with_teacher=False) == {**whole, "teacher_evaluation": None}


def shifted_from(monkeypatch, names, labels, shift=0):
    """Let `eval.source` give the test images, moved by `shift` grey levels a severity; returns its images."""

    def images(name, severity):
        step = shift * (severity or 0) + (10 if name == "contrast" else 0)
        return case()[0].test_images[: len(labels)] // 2 + np.uint8(step)

    files = shifted.Shifted(labels, names, images, {"fingerprint": "x"})
    monkeypatch.setattr(shifted, "load", lambda config, dataset: files)
    return images


def measure(with_teacher=True, **settings):
    """As `run`, but from what `prepare` finds."""
    dataset, *networks = case()
    mesh, config = make_mesh(), make_config(**settings)
    pairs = [(evaluate.predictor(n.model, mesh), n.variables) for n in networks]
    wanted = targets.prepare(config, dataset)
    teacher = pairs[1] if with_teacher else None
    return evaluate.evaluate(pairs[0], dataset, config, mesh, wanted, teacher).result


@pytest.mark.parametrize("order", ["ours", "theirs"])
def test_files_are_read_in_place_of_corruptions_made_here(monkeypatch, whole, order):
    dataset, student, _ = case()
    labels = (dataset.test_labels if order == "ours" else dataset.test_labels[::-1])[:20]
    images = shifted_from(monkeypatch, NAMES, labels, shift=9)
    found = measure(source="cifar10_c")
    mesh = make_mesh()
    pair = (evaluate.predictor(student.model, mesh), student.variables)
    for name in NAMES:
        for severity in (1, 4):
            (logits,) = evaluate.logits_of([pair], images(name, severity), 26, mesh)
            assert found["corruptions"][name][severity - 1] == metrics.accuracy(logits, labels)
    (clean,) = evaluate.logits_of([pair], dataset.test_images[:20], 26, mesh)
    assert found["clean_accuracy"] == metrics.accuracy(clean, dataset.test_labels[:20])
    assert found["examples"] == found["clean_examples"] == 20
    assert found["same_images"] is (order == "ours")
    assert found["source_record"] == {"fingerprint": "x"} and found["frost_pictures"] is None
    assert found["shifted"] is None and found["corruption_settings_of_side"] is None
    assert close(measure(source="cifar10_c", batch_size=7), found)


def test_a_natural_shift(monkeypatch, whole):
    dataset, student, teacher = case()
    labels = dataset.test_labels[:20]
    images = shifted_from(monkeypatch, (), labels)
    found = measure(source="cifar10_1")
    mesh = make_mesh()
    pairs = [(evaluate.predictor(n.model, mesh), n.variables) for n in (student, teacher)]
    logits, others = evaluate.logits_of(pairs, images(None, None), 26, mesh)
    assert found["shifted"]["accuracy"] == metrics.accuracy(logits, labels)
    assert found["shifted"]["nll"] == pytest.approx(metrics.nll(logits, labels))
    assert found["corruptions"] == {} and found["robust_accuracy"] is None
    assert (found["examples"], found["clean_examples"], found["same_images"]) == (20, 26, False)
    assert found["clean_accuracy"] == whole["clean_accuracy"]
    assert found["teacher_evaluation"]["shifted"]["accuracy"] == metrics.accuracy(others, labels)
    same = sum(a.argmax() == b.argmax() for a, b in zip(logits, others, strict=True))
    agreement = found["teacher_evaluation"]["agreement"]
    assert agreement["shifted"] == pytest.approx(100 * same / 20) and agreement["corrupted"] is None


def test_a_reference(tmp_path, whole):
    (tmp_path / "results.json").write_text(json.dumps(whole))
    found = measure(reference=str(tmp_path))
    assert found["against_reference"]["reference"] == str(tmp_path)
    assert found["against_reference"]["mce"] == pytest.approx(100)
    assert found["against_reference"]["robust_difference"] == 0


def test_a_teachers_corruptions_are_marked():
    dataset, student, _ = case()
    mesh, config = make_mesh(), make_config()
    config.views.allow_overlap = True
    pair = (evaluate.predictor(student.model, mesh), student.variables)
    record = {"checkpoint": "runs/t", "trained_corruptions": ["contrast", "fog"]}
    wanted = targets.prepare(config, dataset)
    found = evaluate.evaluate(pair, dataset, config, mesh, wanted, teacher_record=record).result
    assert found["teacher_trained_corruptions"] == ["contrast", "fog"]
    assert found["trained_corruptions"] == [] and found["overlap"] == ["contrast"]
    imported = {"checkpoint": "runs/i"}
    found = evaluate.evaluate(pair, dataset, config, mesh, wanted, teacher_record=imported).result
    assert found["teacher_trained_corruptions"] is None and found["overlap"] == []
    teachers.check_overlap(record, config)
    config.views.allow_overlap = False
    with pytest.raises(ConfigError, match=r"runs/t was trained on contrast"):
        teachers.check_overlap(record, config)
    teachers.check_overlap(None, config)
