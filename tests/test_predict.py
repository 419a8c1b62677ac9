"""`python -m craft_jax.predict`: names and probabilities, against the network's own logits; and installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import craft_jax
from configs import erm
from craft_jax import files, models, predict
from craft_jax.config import tree
from craft_jax.errors import CheckpointError
from craft_jax.runs import weights

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ["cat", "a dog", "owl\x1b[2J"]
SHAPE = [16, 24, 3]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export of a network of random weights, and two pictures of its own size."""
    root = tmp_path_factory.mktemp("exported")
    normal = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
    config = erm.get_config("smoke")
    model = models.build("resnet8", 3, dtype="float32", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), (1, *SHAPE)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.uniform(0.05, 0.4, s.shape).astype(np.float32), shapes)
    kernel = variables["params"]
    while not hasattr(kernel, "shape"):  # the head's: logits of both signs
        kernel = kernel[sorted(kernel)[-1]]
    kernel -= 0.2
    weights.write(root / weights.FILE, weights.leaves(variables))
    weights.describe(root, variables, 0, normal)
    files.write_json(root / "config.json", tree.to_json(config))
    record = {"name": "folder", "num_classes": 3, "classes": CLASSES, "input_shape": SHAPE, **normal}
    files.write_json(root / "dataset.json", record)
    pixels = rng.integers(0, 256, (2, *SHAPE)).astype(np.uint8)
    for name, image in zip("ab", pixels, strict=True):
        Image.fromarray(image).save(root / f"{name}.png")
    return root, pixels


@pytest.fixture(scope="module")
def expected(exported):
    """{class: probability} of each picture, from the logits."""
    root, pixels = exported
    logits = np.asarray(craft_jax.load(root)(pixels / np.float32(255)), np.float64)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    rows = exponentials / exponentials.sum(-1, keepdims=True)
    return [dict(zip(CLASSES, row.tolist(), strict=True)) for row in rows]


def test_load_knows_its_classes_and_shape(exported):
    loaded = craft_jax.load(exported[0])
    assert loaded.classes == tuple(CLASSES) and loaded.input_shape == (16, 24, 3)


def test_json_is_the_softmax_of_the_logits(exported, expected, capsys):
    root, images = exported[0], [str(exported[0] / "a.png"), str(exported[0] / "b.png")]
    assert predict.main([str(root), *images, "--json", "--top=5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["image"] for row in found] == images
    for row, probabilities in zip(found, expected, strict=True):
        order = sorted(probabilities, key=probabilities.get, reverse=True)
        assert [one["class"] for one in row["classes"]] == order
        told = {one["class"]: one["probability"] for one in row["classes"]}
        assert told == pytest.approx(probabilities, abs=1e-6)


def test_a_line_a_picture(exported, expected, capsys):
    root = exported[0]
    assert predict.main([str(root), str(root / "b.png"), str(root / "a.png"), "--top=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, name, probabilities in zip(lines, "ba", expected[::-1], strict=True):
        best = sorted(probabilities.items(), key=lambda item: -item[1])[:2]
        told = ", ".join(f"{label} {100 * p:.2f}%" for label, p in best).replace("\x1b", "\\x1b")
        assert line == f"{root / name}.png: {told}"


def test_pictures_that_cannot_be_read_are_all_named(exported, tmp_path, capsys):
    (tmp_path / "x.png").write_text("no picture")
    words = [exported[0], tmp_path / "x.png", exported[0] / "a.png", tmp_path / "none.png"]
    assert predict.main([*map(str, words)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "x.png: cannot be read as a picture (not of" in said.err
    assert "none.png: cannot be read as a picture (no such file)" in said.err and "a.png" not in said.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", ["cat"]),
        ("classes", "cat"),
        ("classes", [1, 2, 3]),
        ("num_classes", 10**12),
        ("input_shape", [16, 16]),
        ("input_shape", [16, 2**20, 3]),
        ("input_shape", None),
    ],
)
def test_records_from_elsewhere_are_checked(exported, tmp_path, key, value):
    shutil.copytree(exported[0], tmp_path / "copy")
    record = files.read_json(tmp_path / "copy" / "dataset.json")
    if key == "num_classes":
        del record["classes"]  # as in an older version's
    files.write_json(tmp_path / "copy" / "dataset.json", record | {key: value})
    with pytest.raises(CheckpointError, match=r"in dataset\.json"):
        craft_jax.load(tmp_path / "copy")


def test_it_works_where_the_package_alone_is_installed(exported, expected, tmp_path):
    """The package's modules and no other file of this repository, from another directory."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "craft_jax", tmp_path / "site" / "craft_jax", ignore=ignored)
    words = [sys.executable, "-m", "craft_jax.predict", exported[0], exported[0] / "a.png"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*words, exported[0] / "b.png", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    for row, probabilities in zip(json.loads(done.stdout), expected, strict=True):
        told = {one["class"]: one["probability"] for one in row["classes"]}
        assert told == pytest.approx(probabilities, abs=1e-6)
