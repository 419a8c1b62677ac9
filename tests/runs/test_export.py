"""An exported student, run without the package, says what the student says."""

import json
import math
import subprocess
import sys

import jax
import numpy as np
import pytest

import craft_jax
from craft_jax import files
from craft_jax.errors import CheckpointError, CraftError
from craft_jax.runs import checkpoint, export, teachers, weights
from craft_jax.training import train

ALONE = """
import sys, numpy as np, jax
from jax import export
function = export.deserialize(open(sys.argv[1], "rb").read())
np.save(sys.argv[3], function.call(np.load(sys.argv[2])))
assert not any(m.startswith(("craft_jax", "flax")) for m in sys.modules)
"""


@pytest.fixture
def workdir(make_config, digits, tmp_path):
    train.train_and_evaluate(
        make_config("erm", epochs=1, **{"teacher.cache": "unused"}), tmp_path / "run", digits
    )
    return tmp_path / "run"


def test_three_ways_to_the_same_logits(workdir, digits, tmp_path):
    assert export.main([str(workdir)]) == 0
    images = digits.test_images[:5] / np.float32(255)
    predict = craft_jax.load(workdir)
    expected = np.asarray(predict(images))

    np.save(tmp_path / "images.npy", images)
    out = tmp_path / "logits.npy"
    artefact = workdir / "export" / "model.jax_export"
    words = [sys.executable, "-c", ALONE, artefact, tmp_path / "images.npy", out]
    subprocess.run(words, check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(out), expected, rtol=1e-5, atol=1e-5)

    from safetensors.numpy import load_file

    tensors = load_file(workdir / "export" / "model.safetensors")
    flat, structure = jax.tree_util.tree_flatten_with_path(predict.variables)
    variables = jax.tree.unflatten(structure, [tensors[checkpoint.path_of(path)] for path, _ in flat])
    assert len(tensors) == len(flat)
    logits = jax.jit(lambda v, x: predict.model.apply(v, x, False)[0].logits)(variables, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)

    record = json.loads((workdir / "export" / "model.json").read_text())
    assert record["params_sha256"] == checkpoint.params_sha256(variables)
    assert record["input"] == ["batch", 16, 16, 3]


def test_what_is_missing_is_named(tmp_path, capsys, monkeypatch):
    assert export.main([str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(CraftError, match=r"requirements-export\.txt"):
        export.export(tmp_path)


def test_an_export_serves_as_a_run(workdir, digits, make_config):
    directory = export.export(workdir)
    config = make_config("kd", **{"teacher.checkpoint": str(directory), "teacher.name": "resnet8"})
    teacher = teachers.load(directory, digits, config)
    own = teachers.load(workdir, digits, config)
    assert teacher.record == own.record | {"checkpoint": str(directory)}
    jax.tree.map(np.testing.assert_array_equal, teacher.variables, own.variables)
    images = digits.test_images[:3] / np.float32(255)
    np.testing.assert_array_equal(craft_jax.load(directory)(images), craft_jax.load(workdir)(images))


def test_damaged_weights_are_refused(workdir):
    directory = export.export(workdir)
    path = directory / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"not the parameters that model\.json describes"):
        craft_jax.load(directory)
    path.write_bytes(whole[:100])
    with pytest.raises(CheckpointError, match="not readable as safetensors"):
        craft_jax.load(directory)
    path.write_bytes(whole)
    record = files.read_json(directory / "model.json")
    bad = {"mean": ["x", [0.5, 0.5], [0.5, 0.5, math.nan], [0.5, 0.5, 10**400]], "std": [[0.2, 0.2, 0.0]]}
    for key, values in bad.items():
        for value in values:
            files.write_json(directory / "model.json", {**record, key: value})
            with pytest.raises(CheckpointError, match=rf"the {key} of its images is .*; allowed: three fin"):
                craft_jax.load(directory)
    files.write_json(directory / "model.json", record)
    assert craft_jax.load(directory).std == tuple(record["std"])


@pytest.mark.parametrize("names", [("params/a", "params/a/b"), ("params/a/b", "params/a")])
def test_an_array_within_an_array_is_refused(tmp_path, names):
    weights.write(tmp_path / weights.FILE, {name: np.zeros(1, np.float32) for name in names})
    files.write_json(tmp_path / "model.json", {"step": 0, "params_sha256": ""})
    with pytest.raises(CheckpointError, match="lie within each other"):
        weights.load(tmp_path)
    with pytest.raises(ValueError, match="lie within each other"):
        weights.nested(dict.fromkeys(names))
