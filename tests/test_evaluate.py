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
from craft_jax import evaluate, metrics, models
from craft_jax import mesh as meshes
from craft_jax.data.shifted import Shifted
from craft_jax.errors import ConfigError
from craft_jax.models.resnet import ResNet

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("gaussian_noise", "contrast")


@functools.cache
def case():
    """(dataset, student, teacher): 26 random images and two untrained networks of 4 channels."""
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (26, 16, 16, 3)).astype(np.uint8)
    labels = random.integers(0, 3, 26).astype(np.int32)
    dataset = SimpleNamespace(
        test_images=images, test_labels=labels, evaluation_split="test", fingerprint="f", num_classes=3
    )
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
    mesh = meshes.make()
    pairs = [(evaluate.predictor(n.model, mesh), n.variables) for n in networks]
    targets = evaluate.Targets(files, reference)
    config = make_config(**settings)
    return evaluate.evaluate(pairs[0], dataset, config, mesh, targets, pairs[1] if with_teacher else None)


@pytest.fixture(scope="module")
def whole():
    return run()


def close(found, wanted):
    """Equal trees; floats up to rounding. Accuracies of 26 images are 3.8 apart: one flip would show."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        return all(close(found[key], wanted[key]) for key in wanted)
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
    command = [sys.executable, "-c", PROGRAM.format(tests=str(ROOT / "tests"))]
    process = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == 0, process.stderr
    count, found = json.loads(process.stdout)
    assert count == devices
    assert close(found, json.loads(json.dumps(whole)))


def test_two_evaluations_are_identical(whole):
    assert run() == whole


def test_the_teacher_is_measured_on_the_same_images(whole):
    """What the teacher's own evaluation gives, and the agreement counted by hand."""
    dataset, student, teacher = case()
    mesh = meshes.make()
    swapped = evaluate.evaluate(
        (evaluate.predictor(teacher.model, mesh), teacher.variables),
        *(dataset, make_config(), mesh, evaluate.Targets(None, None)),
    )
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


def test_the_teacher_is_left_out_where_asked(whole):
    found = run(teacher=False)
    assert found["teacher_evaluation"] is None
    assert found == run(with_teacher=False) == {**whole, "teacher_evaluation": None}


def files_of(names, labels, shift=0):
    """A source that gives the test images, moved by `shift` grey levels a severity."""

    def images(name, severity):
        step = shift * (severity or 0) + (10 if name == "contrast" else 0)
        return case()[0].test_images[: len(labels)] // 2 + np.uint8(step)

    return Shifted(labels, names, images, {"dir": "somewhere"})


def test_files_are_read_in_place_of_corruptions_made_here(whole):
    dataset, student, _ = case()
    labels = np.roll(dataset.test_labels, 1)[:20]  # in an order of their own, and fewer
    files = files_of(NAMES, labels, shift=9)
    found = run(files, source="cifar10_c", with_teacher=False)
    mesh = meshes.make()
    pair = (evaluate.predictor(student.model, mesh), student.variables)
    for name in NAMES:
        for severity in (1, 4):
            (logits,) = evaluate.logits_of([pair], files.images(name, severity), 26, mesh)
            assert found["corruptions"][name][severity - 1] == metrics.accuracy(logits, labels)
    assert found["clean_accuracy"] == whole["clean_accuracy"]
    assert found["source_record"] == {"dir": "somewhere"} and found["frost_pictures"] is None
    assert found["shifted"] is None


def test_a_natural_shift():
    dataset, student, _ = case()
    files = files_of((), dataset.test_labels[:20])
    found = run(files, source="cifar10_1")
    mesh = meshes.make()
    pair = (evaluate.predictor(student.model, mesh), student.variables)
    (logits,) = evaluate.logits_of([pair], files.images(None, None), 26, mesh)
    assert found["shifted"]["accuracy"] == metrics.accuracy(logits, files.labels)
    assert found["shifted"]["nll"] == pytest.approx(metrics.nll(logits, files.labels))
    assert found["corruptions"] == {} and found["robust_accuracy"] is None
    assert found["teacher_evaluation"]["shifted"]["accuracy"] is not None
    assert found["teacher_evaluation"]["agreement"]["corrupted"] is None


def test_the_reference_is_found_before_any_work(tmp_path, whole):
    dataset = case()[0]
    config = make_config(reference=str(tmp_path))
    (tmp_path / "dataset.json").write_text('{"fingerprint": "another"}')
    with pytest.raises(ConfigError, match=r"config\.eval\.reference: .* has other data"):
        evaluate.prepare(config, dataset)
    (tmp_path / "dataset.json").write_text('{"fingerprint": "f"}')
    (tmp_path / "results.json").write_text(json.dumps(whole | {"examples": 25}))
    with pytest.raises(ConfigError, match="differs in examples"):
        evaluate.prepare(config, dataset)
    (tmp_path / "results.json").write_text(json.dumps(whole))
    targets = evaluate.prepare(config, dataset)
    found = run(reference=targets.reference)
    assert found["against_reference"]["mce"] == pytest.approx(100)
    assert found["against_reference"]["robust_difference"] == 0
