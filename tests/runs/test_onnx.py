"""A student as ONNX gives its logits, in int8 nearly; a model card says what it is, and its snippets run."""

import dataclasses
import functools
import json
import re
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict
from PIL import Image

import craft_jax
from craft_jax import data, models
from craft_jax import predict as command
from craft_jax.errors import CraftError, DataError
from craft_jax.evaluation import __main__ as evaluation
from craft_jax.models import layers, shufflenetv2, vit
from craft_jax.runs import export, model_card, onnx_format, predict
from craft_jax.training import train
from tests.conftest import small_config

WHY = "requirements-onnx.txt is not installed"
onnxruntime = pytest.importorskip("onnxruntime", reason=WHY)
onnx = pytest.importorskip("onnx", reason=WHY)
pytest.importorskip("jax2onnx", reason=WHY)
SIZES = ["--config.eval.corruptions=contrast", "--config.eval.severities=5", "--config.eval.batch_size=16"]
SIZES += ["--config.eval.max_examples=0", "--config.log.progress=False"]


@pytest.fixture(scope="module")
def workdir(digits, tmp_path_factory):
    """A run that is exported in four formats."""
    workdir = tmp_path_factory.mktemp("onnx") / "run"
    train.train_and_evaluate(small_config("erm", epochs=1), workdir, digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda config: digits)
        patch.setattr(onnx_format, "CALIBRATION", 40)
        assert export.main([str(workdir), "--formats=safetensors,jax,onnx,onnx_int8"]) == 0
    return workdir


@pytest.fixture
def loaded(digits, monkeypatch):
    monkeypatch.setattr(data, "load", lambda config: digits)
    return digits


def test_the_files_give_the_students_logits(workdir, digits):
    directory, predict = workdir / "export", craft_jax.load(workdir)
    session = onnxruntime.InferenceSession(str(directory / "model.onnx"), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(float)", [16, 16, 3])
    assert isinstance(given.shape[0], str)  # any number
    onnx.checker.check_model(str(directory / "model.onnx"), full_check=True)
    for count in (1, 5):
        images = digits.test_images[:count] / np.float32(255)
        wanted = np.asarray(predict(images))
        np.testing.assert_allclose(session.run(None, {"images": images})[0], wanted, atol=1e-4)
    # int8 is another network: near, and not the same.
    images = digits.test_images / np.float32(255)
    wanted, found = predict(images), onnx_format.Classifier(directory / "model_int8.onnx")(images)
    assert 0 < np.abs(found - wanted).max() < 0.5 * np.ptp(wanted)
    kinds = {node.op_type for node in onnx.load(str(directory / "model_int8.onnx")).graph.node}
    assert "QuantizeLinear" in kinds and "BatchNormalization" not in kinds
    record = json.loads((directory / "onnx.json").read_text())
    assert record["calibration_images"] == 40
    assert json.loads((directory / "model.json").read_text())["classes"] == list("0123456789")
    for name in ("jax", "model.onnx", "model_int8.onnx"):
        assert record["latency_ms"][name].keys() == {"1", "128"}
        assert all(value > 0 for value in record["latency_ms"][name].values())


def test_the_cards_snippets_run(workdir, digits, monkeypatch):
    text = (workdir / "export" / "README.md").read_text()
    result = json.loads((workdir / "results.json").read_text())
    assert result["params_sha256"] in text and "**Classes**: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n" in text
    assert "CC BY 4.0" in text and "six months" in text
    assert f"| contrast | {result['corruptions']['contrast'][4]:.2f} | - | - | - | - |" in text
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 4 and all(len(snippet.splitlines()) <= 10 for snippet in snippets)
    monkeypatch.chdir(workdir / "export")
    wanted = np.asarray(craft_jax.load(workdir)(np.full((2, 16, 16, 3), 0.5, np.float32)))
    for snippet in snippets:
        space = {}
        exec(compile(snippet, "snippet", "exec"), space)
        rounding = 0.5 * np.ptp(wanted) if "int8" in snippet else 1e-4
        np.testing.assert_allclose(space["logits"], wanted, atol=rounding)
    # The fifth is of PyTorch's code, which the tests do without.
    assert all(len(snippet.splitlines()) <= 10 for _, snippet in model_card.SNIPPETS.values())


def test_evaluation_gives_a_runs_table(workdir, loaded, tmp_path, capsys):
    """Of the float file the very figures of the run's own evaluation, and a file that the report reads."""
    out, own = tmp_path / "out.json", json.loads((workdir / "results.json").read_text())
    words = [f"--onnx={workdir / 'export' / 'model.onnx'}", "--config=configs/erm.py:smoke", f"--out={out}"]
    assert evaluation.main([*words, *SIZES]) == 0
    found = json.loads(out.read_text())
    for key in ("clean_accuracy", "robust_accuracy", "corruptions", "primary_metric"):
        assert found[key] == own[key]
    assert found["clean"]["nll"] == pytest.approx(own["clean"]["nll"], rel=1e-4)
    assert f"clean accuracy   {own['clean_accuracy']:>6.2f}%" in capsys.readouterr().out
    from craft_jax.report import tables

    (row,) = tables.rows(tables.read([str(out)]))
    assert row[1:6] == ("onnx", "digits", "model.onnx", "-", "not known")


@pytest.mark.parametrize("name", ["model.onnx", "model_int8.onnx"])
def test_a_file_alone_names_the_classes_of_pictures(workdir, digits, tmp_path, name, capsys):
    file, paths = workdir / "export" / name, [str(tmp_path / f"{i}.png") for i in range(3)]
    for path, image in zip(paths, digits.test_images, strict=False):
        Image.fromarray(image).save(path)
    assert command.main([str(file), *paths, "--json", "--top=10"]) == 0
    logits = onnx_format.Classifier(file)(digits.test_images[:3] / np.float32(255)).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for row, probabilities in zip(json.loads(capsys.readouterr().out), expected, strict=True):
        told = {one["class"]: one["probability"] for one in row["classes"]}
        assert told == pytest.approx(dict(zip("0123456789", probabilities, strict=True)), abs=1e-6)


def test_an_export_of_other_parameters_is_cleared(workdir, tmp_path, capsys):
    student = craft_jax.load(workdir)
    directory = shutil.copytree(workdir / "export", tmp_path / "export")
    before = sorted(path.name for path in directory.iterdir())
    model_card.clear(directory, student)
    assert sorted(path.name for path in directory.iterdir()) == before and not capsys.readouterr().err
    student.variables = jax.tree.map(lambda leaf: leaf + 1, student.variables)
    (directory / "notes.txt").touch()  # is not ours
    model_card.clear(directory, student)
    kept = {"config.json", "dataset.json", "results.json", "notes.txt"}
    assert {path.name for path in directory.iterdir()} == kept
    said = capsys.readouterr().err
    assert "removed: " in said and all(name in said for name in set(before) - kept)


def linear(path, shape, weights, classes=10, kind=None, metadata=None):
    """An ONNX file of the mean over positions and a linear layer, channels where `shape` has the 3."""
    helper, kind = onnx.helper, kind or onnx.TensorProto.FLOAT
    axes = [1, 2] if shape[-1] == 3 else [2, 3]
    constants = [
        onnx.numpy_helper.from_array(weights.astype(np.float32), "w"),
        onnx.numpy_helper.from_array(np.array(axes), "axes"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, [shape[0], classes])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("b", 16, 16, 3), "NHWC"),
        (("b", 3, "h", "w"), "NCHW"),
        ((4, 3, 16, 16), "NCHW"),
        ((1, 16, 16, 3), "NHWC"),
    ],
)
def test_files_of_others_by_their_shape(tmp_path, shape, layout):
    weights = np.random.default_rng(0).normal(size=(3, 10))
    network = onnx_format.Classifier(linear(tmp_path / "x.onnx", shape, weights), MEAN, STD)
    network.check((16, 16, 3), 10)
    assert network.layout == layout
    images = np.random.default_rng(1).uniform(size=(6, 16, 16, 3))
    wanted = ((images - MEAN) / STD).mean(axis=(1, 2)) @ weights
    np.testing.assert_allclose(network(images), wanted, atol=1e-5)


def test_what_is_no_such_classifier_is_refused(tmp_path, loaded, capsys):
    weights = np.zeros((3, 10))

    def refused(path, *words):
        assert evaluation.main([f"--onnx={path}", "--data=digits", *SIZES, *words]) == 2
        return capsys.readouterr().err

    def made(shape, **more):
        return linear(tmp_path / "x.onnx", shape, weights, **more)

    assert "no such file" in refused(tmp_path / "nothing.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x0a garbage")
    assert "onnxruntime cannot load it" in refused(tmp_path / "broken.onnx")
    assert "images are 8x8, the data's 16x16" in refused(made(("b", 8, 8, 3)))
    assert "allowed: (B, H, W, 3) or (B, 3, H, W)" in refused(made(("b", "c", "h", "w")))
    assert "allowed: (B, H, W, 3) or (B, 3, H, W)" in refused(made(("b", 3, 16, 3)))
    weights = np.zeros((3, 7))
    assert "it has 7 classes, the data 10" in refused(made(("b", 16, 16, 3), classes=7))
    fine = made(("b", 16, 16, 3), classes=7)
    assert "--std: (0.2, 0.0, 0.2)" in refused(fine, "--std=0.2,0,0.2")
    assert "allowed: three numbers" in refused(fine, "--mean=1,2")
    assert "--data: 'mnist' is unknown" in refused(fine, "--data=mnist")
    assert "config.eval.adaptation" in refused(fine, "--config.eval.adaptation=tent")
    assert "--out: " in refused(fine, "--out=somewhere")


@pytest.mark.parametrize(
    ("stored", "names"),
    [('["a", "b"]', ("a", "b")), ('["a"]', ()), ("[1, 2]", ()), ("{0: 'a', 1: 'b'}", ()), ("[" * 10_000, ())],
)
def test_names_of_classes_in_files_of_others(tmp_path, stored, names, capsys):
    file = tmp_path / "x.onnx"
    linear(file, ("b", "h", "w", 3), np.zeros((3, 2)), classes=2, metadata={"classes": stored})
    assert onnx_format.Classifier(file).names == names
    assert command.main([str(file), "x.png"]) == 2
    assert "it says no names of classes, or no size of images" in capsys.readouterr().err


def test_names_of_classes_are_the_datas(tmp_path):
    file = tmp_path / "x.onnx"
    linear(file, ("b", "h", "w", 3), np.zeros((3, 2)), classes=2, metadata={"classes": '["a", "b"]'})
    network = onnx_format.Classifier(file)
    for classes in ((), ("a", "b")):
        network.check((16, 16, 3), 2, classes)
    with pytest.raises(DataError, match="its classes are not the data's: b where that has c"):
        network.check((16, 16, 3), 2, ("a", "c"))
    linear(file, ("b", "h", "w", 3), np.zeros((3, 2)), classes=2, metadata={"classes": '["0", "1"]'})
    onnx_format.Classifier(file).check((16, 16, 3), 2, ("a", "c"))


def test_evaluation_takes_a_folder_of_pictures(tmp_path, monkeypatch, capsys):
    """A file that tells red from blue, on four pictures of which one lies in the wrong class."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i, (name, colour) in enumerate([*zip("brbr", ("blue", "red") * 2, strict=True), ("b", "red")] * 2):
        place = tmp_path / "pictures" / ("train" if i < 5 else "test") / name / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 30), colour).save(place)
    tells = np.array([[0, 1], [0, 0], [1, 0]])
    file = linear(tmp_path / "x.onnx", ("b", 16, 16, 3), tells, 2, metadata={"classes": '["b", "r"]'})
    words = [f"--onnx={file}", f"--data={tmp_path / 'pictures'}", *SIZES]
    assert evaluation.main(words) == 0
    assert "clean accuracy    80.00%" in capsys.readouterr().out
    assert evaluation.main([*words, "--config.data.size=20"]) == 2
    assert "images are 16x16, the data's 20x20" in capsys.readouterr().err
    linear(file, ("b", 16, 16, 3), tells, 2, metadata={"classes": '["r", "b"]'})
    assert evaluation.main(words) == 2
    assert "its classes are not the data's: r where that has b" in capsys.readouterr().err


def test_int8_wants_the_runs_own_training_images(workdir, digits, monkeypatch):
    other = dataclasses.replace(digits, fingerprint="other")
    monkeypatch.setattr(data, "load", lambda config: other)
    before = sorted((workdir / "export").iterdir())
    with pytest.raises(DataError, match="not those the run trained on"):
        export.export(workdir, ["onnx_int8"])
    assert sorted((workdir / "export").iterdir()) == before


class Shuffled(nn.Module):
    """A ShuffleNetV2 of one unit of each kind."""

    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x, train):
        x = shufflenetv2.DownUnit(8, self.dtype)(x, train)
        return layers.classify([x], self.num_classes, shufflenetv2.Unit(self.dtype)(x, train))


@pytest.mark.parametrize("network", [Shuffled, functools.partial(vit.ViT, 12, 3, 2)])
def test_networks_of_other_operations_are_converted(network, monkeypatch, tmp_path):
    """Channels dealt out; patches, attention and GELU: at random weights, at any number of images."""
    monkeypatch.setitem(models.REGISTRY, "other", network)
    model = models.build("other", 3, dtype="float32", mean=MEAN, std=STD)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), (1, 16, 16, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype(np.float32), shapes)
    config = ConfigDict({"student": {"name": "other"}})
    student = predict.Predictor(model, variables, config, 0, MEAN, STD)
    onnx_format.write(student, (16, 16, 3), tmp_path / "x.onnx")
    images = rng.uniform(size=(3, 16, 16, 3)).astype(np.float32)
    wanted, found = np.asarray(student(images)), onnx_format.Classifier(tmp_path / "x.onnx")(images)
    assert np.ptp(wanted, axis=0).min() > 1e-2  # images tell
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_network_that_onnx_cannot_express_is_named(workdir, monkeypatch, tmp_path):
    student = craft_jax.load(workdir)

    def apply(variables, images, train):
        found = student.model.apply(variables, images, train)
        return (found[0]._replace(logits=models.jax.numpy.linalg.qr(found[0].logits.T)[0].T), found[1])

    student.model = student.model._replace(apply=apply)
    with pytest.raises(CraftError, match="jax2onnx cannot convert 'tiny'"):
        onnx_format.write(student, (16, 16, 3), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
