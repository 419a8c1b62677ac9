"""Foreign teachers by the command: what it writes serves as a run, what it refuses leaves nothing behind."""

import functools
import re

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import craft_jax
from craft_jax import data, files, import_weights, models
from craft_jax.evaluation import probe
from craft_jax.models import torch_names, vit
from craft_jax.runs import export, teachers, weights
from craft_jax.training import train

OVERRIDES = ("--config=configs/erm.py:smoke", "--config.eval.batch_size=40", "--config.log.progress=False")


@pytest.fixture(autouse=True)
def embedded(digits, monkeypatch):
    monkeypatch.setattr(data, "load", lambda config: digits)


@pytest.fixture
def command(tmp_path):
    """command(file, network, *words): the exit status of an import of digits into tmp_path/out."""

    def command(file, network, *words):
        named = (f"--network={network}", "--data=digits", f"--out={tmp_path / 'out'}")
        return import_weights.main([str(file), *named, *OVERRIDES, *words])

    return command


def write(path, network, names, seed=0):
    """Random weights of a network as PyTorch lays them out, by {path: name}."""
    model = models.build(network, 10, dtype="float32", mean=(0.5,) * 3, std=(0.25,) * 3)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), (1, 16, 16, 3)))
    rng = np.random.default_rng(seed)
    leaves = {
        p: (rng.uniform(0.5, 1.5, x.shape) if p.endswith("/var") else rng.normal(size=x.shape) / 4)
        for p, x in weights.leaves(jax.tree.map(lambda x: np.empty(x.shape), shapes)).items()
    }
    leaves = {p: x.astype(np.float32) for p, x in leaves.items()}
    save_file({name: torch_names.to_torch(p, leaves[p]) for p, name in names(list(leaves)).items()}, path)
    return leaves


def resnet8_names(paths):
    return torch_names.names("resnet8", paths)[0][1]


def test_an_imported_network_serves_as_a_run(command, tmp_path, digits, make_config, capsys):
    leaves = write(tmp_path / "net.safetensors", "resnet8", resnet8_names)
    words = ("--mean=.5,.5,.5", "--std=.25,.25,.25")
    assert command(tmp_path / "net.safetensors", "resnet8", *words) == 0
    out = tmp_path / "out"
    result = files.read_json(out / "results.json")
    assert result["clean_examples"] == 40 and result["corruptions"] == {} and result["method"] == "import"
    assert f"{result['clean_accuracy']:.2f}% of 40 test images; written to {out}" in capsys.readouterr().out
    assert files.read_json(out / "dataset.json")["mean"] == list(digits.mean)

    predict = craft_jax.load(out)
    assert predict.mean == (0.5,) * 3 and predict.std == (0.25,) * 3
    for path, leaf in weights.leaves(predict.variables).items():
        np.testing.assert_array_equal(leaf, leaves[path])
    config = make_config("kd", **{"teacher.checkpoint": str(out)})
    record = teachers.load(out, digits, config).record
    assert (record["name"], record["method"], record["step"]) == ("resnet8", "import", 0)
    assert record["seed"] is None is result["seed"] and "trained_corruptions" not in {**record, **result}
    assert record["notes"] == result["notes"] and "not known" in record["notes"][0]
    assert record["clean_accuracy"] == result["clean_accuracy"] and not record["other_data"]

    assert export.main([str(out), "--formats=torch"]) == 0
    assert {path.name for path in (out / "export").iterdir()} == {"README.md", "torch.safetensors"}
    card = (out / "export" / "README.md").read_text()
    assert "how it was trained is not known" in card and "epochs" not in card
    given = load_file(tmp_path / "net.safetensors")
    back = load_file(out / "export" / "torch.safetensors")
    assert set(back) - set(given) == {
        n.replace("running_var", "num_batches_tracked") for n in given if "_var" in n
    }
    for name, tensor in given.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_a_dry_run_shows_the_mapping_and_writes_nothing(command, tmp_path, capsys):
    write(tmp_path / "net.safetensors", "resnet8", resnet8_names)
    assert command(tmp_path / "net.safetensors", "resnet8", "--dry_run") == 0
    out = capsys.readouterr().out
    assert (
        "  layer2.0.downsample.0.weight F32(32, 16, 1, 1) -> params/group2_block1/shortcut_conv/kernel\n"
        in out
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.safetensors"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--network=resnet9",), "--network: 'resnet9' is unknown; allowed: resnet8,"),
        (("--data=mnist",), "--data: 'mnist' is unknown; allowed: digits,"),
        (("--mean=1,2",), "argument --mean: '1,2'; allowed: three numbers, R,G,B"),
        (("--mean=a,b,c",), "argument --mean: 'a,b,c'; allowed: three numbers, R,G,B"),
        (("--std=0,1,1",), r"--std: (0.0, 1.0, 1.0); allowed: numbers above 0"),
        (("--out=.",), "--out: . is there already; allowed: a new directory"),
        (("--config.seeds=1",), "config.seeds: no such key"),
        (("--config.data.validation=5",), "config.data.validation: 5; allowed: 0"),
        (("--config.eval.adaptation=tent",), "config.eval.adaptation: 'tent'; allowed: 'none'"),
        ((), "none.safetensors: cannot be read (No such file"),
    ],
)
def test_bad_input_is_one_message_and_status_2(command, tmp_path, words, said, capsys):
    assert command(tmp_path / "none.safetensors", "resnet8", *words) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("craft_jax: ") and said in told.err
    assert not (tmp_path / "out").exists()


def test_a_link_to_nowhere_and_a_place_taken_since(command, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "nowhere")
    assert command(tmp_path / "none.safetensors", "resnet8") == 2
    assert "out is there already" in capsys.readouterr().err
    out.unlink()

    def measured(*_):
        (out / "taken").mkdir(parents=True)
        return {"status": "done", "method": "import"}, {}

    monkeypatch.setattr(import_weights, "_measure", measured)
    write(tmp_path / "net.safetensors", "resnet8", resnet8_names)
    assert command(tmp_path / "net.safetensors", "resnet8") == 2
    assert re.search(r"out: cannot be written \(Directory not empty", capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.safetensors", "out"]


def test_a_network_of_the_configurations_file_is_known(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(models, "REGISTRY", {k: v for k, v in models.REGISTRY.items() if k != "smallnet"})
    save_file({"w": np.zeros(1, np.float32)}, tmp_path / "net.safetensors")
    assert command(tmp_path / "net.safetensors", "smallnet", "--config=configs/own_network.py:smoke") == 2
    assert "is not a smallnet under the names of craft_jax" in capsys.readouterr().err


def test_a_file_of_another_network_leaves_nothing(command, tmp_path, capsys):
    write(tmp_path / "net.safetensors", "resnet8", resnet8_names)
    assert command(tmp_path / "net.safetensors", "resnet14") == 2
    assert "is not a resnet14" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def dinov2_names(paths):
    return dict(torch_names.names("vit_small14", paths))["Hugging Face's Dinov2Model"]


@pytest.mark.slow
def test_craft_trains_from_a_dinov2_with_a_probe(command, tmp_path, digits, make_config, monkeypatch):
    tiny = functools.partial(vit.ViT, 12, 3, 2)
    monkeypatch.setitem(models.REGISTRY, "vit_tiny14", tiny)
    monkeypatch.setitem(vit.MODELS, "vit_tiny14", tiny)
    write(tmp_path / "net.safetensors", "vit_tiny14", dinov2_names)
    tensors = load_file(tmp_path / "net.safetensors")
    assert "embeddings.cls_token" in tensors and not any("classifier" in name for name in tensors)
    save_file(
        {**tensors, "embeddings.mask_token": np.zeros((1, 12), np.float32)}, tmp_path / "net.safetensors"
    )
    assert command(tmp_path / "net.safetensors", "vit_tiny14") == 0
    teacher = craft_jax.load(tmp_path / "out")
    assert (teacher.mean, teacher.std) == (vit.MEAN, vit.STD)
    assert teacher.variables["params"]["head"]["kernel"].shape == (24, 10)
    export.write_torch(teacher, tmp_path / "export")
    with safe_open(tmp_path / "export" / "torch.safetensors", "numpy") as file:
        assert not file.get_tensor("dinov2.embeddings.mask_token").any()
        assert set(file.keys()) == {
            "classifier.weight",
            "classifier.bias",
            *(f"dinov2.{name}" for name in (*tensors, "embeddings.mask_token")),
        }
        assert file.metadata()["side"] == "the next multiple of 14"

    settings = {"teacher.checkpoint": str(tmp_path / "out"), "eval.batch_size": 40}
    config = make_config("craft", epochs=1, **settings)
    result = train.train_and_evaluate(config, tmp_path / "student", digits)
    assert result["status"] == "done" and result["teacher"]["name"] == "vit_tiny14"
    assert result["teacher_evaluation"]["clean_accuracy"] == result["teacher"]["clean_accuracy"]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_finds_the_minimum(classes):
    """Its gradient vanishes there, of weights and bias on the standardised features."""
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(60, 4)) * (1, 10, 0.1, 0) + 3).astype(np.float32)  # the last never moves
    labels = rng.integers(classes, size=60)
    kernel, bias, fault = probe.fit(features, labels, classes)
    assert fault == ""
    deviation = np.where(features.std(0) == 0, 1, features.std(0))
    x = (features - features.mean(0)) / deviation
    logits = features.astype(np.float64) @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (p - np.eye(classes)[labels]) / 60
    weight_decay = probe.WEIGHT_DECAY * kernel * deviation[:, None]
    np.testing.assert_allclose(x.T @ error + weight_decay, 0, atol=1e-4)
    np.testing.assert_allclose(error.sum(0), 0, atol=1e-4)


def test_a_probe_that_stops_early_says_so(monkeypatch):
    monkeypatch.setattr(probe, "_ITERATIONS", 2)
    features = np.random.default_rng(0).normal(size=(60, 4))
    assert probe.fit(features, np.arange(60) % 3, 3)[2].endswith("(2 iterations)")
