"""TFDS's shifted test images of CIFAR-10: cifar10_corrupted where it is prepared, and CIFAR-10.1."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from craft_jax import corruptions, data
from craft_jax.data import shifted, shifted_tfds, tfds
from craft_jax.errors import DataError
from craft_jax.evaluation import workdirs
from craft_jax.report import __main__ as report
from craft_jax.report import measures
from craft_jax.runs import predict
from craft_jax.training import train
from tests.data.shifted_files import fails


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    stream.seek(0)
    return stream


def prepare_corrupted(root, config, images, labels):
    """DIR/cifar10_corrupted/CONFIG/1.0.0 as TFDS writes it, its images encoded here."""
    import tensorflow_datasets

    class Prepared(tensorflow_datasets.image_classification.Cifar10Corrupted, skip_registration=True):
        def _split_generators(self, dl_manager):
            rows = enumerate(zip(images, labels, strict=True))
            return {"test": [(i, {"image": png(x), "label": int(y)}) for i, (x, y) in rows]}

    Prepared.name = "cifar10_corrupted"
    Prepared(config=config, data_dir=root, file_format="array_record").download_and_prepare()


CELLS = {
    ("glass_blur", 1): "frosted_glass_blur_1",
    ("glass_blur", 5): "frosted_glass_blur_5",
    ("elastic_transform", 1): "elastic_1",
    ("elastic_transform", 5): "elastic_5",
}


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory):
    """(TFDS's directory, {cell: 20 images}, 20 labels in that order before TFDS shuffles them)."""
    root, rng = tmp_path_factory.mktemp("corrupted"), np.random.default_rng(3)
    labels = np.arange(20) % 10
    images = {cell: rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8) for cell in CELLS}
    for cell, config in CELLS.items():
        prepare_corrupted(root, config, images[cell], labels)
    return root, images, labels


@pytest.fixture
def cifar(digits):
    """CIFAR-10 as far as the shifted images need it."""
    images = np.zeros((20, 32, 32, 3), np.uint8)
    return dataclasses.replace(digits, name="cifar10", test_images=images, test_labels=np.arange(20) % 10)


@pytest.fixture
def from_tfds(settings, corrupted):
    def make(**overrides):
        fixed = {
            "eval.dir": str(corrupted[0]),
            "eval.corruptions": ("glass_blur", "elastic_transform"),
            "eval.severities": (1, 5),
        }
        return settings("cifar10_corrupted", **(fixed | overrides))

    return make


@pytest.mark.parametrize("key", ["eval.dir", "data.dir"])
def test_tfds_gives_each_cell_its_own_images(from_tfds, corrupted, cifar, key):
    root, images, labels = corrupted
    loaded = shifted.load(from_tfds(**{"eval.dir": "", key: str(root)}), cifar)
    assert loaded.names == ("glass_blur", "elastic_transform") and loaded.labels.dtype == np.int32
    for cell in CELLS:
        block = loaded.images(*cell)
        assert block.dtype == np.uint8
        pairs = {(x.tobytes(), int(y)) for x, y in zip(block, loaded.labels, strict=True)}
        assert pairs == {(x.tobytes(), int(y)) for x, y in zip(images[cell], labels, strict=True)}
    record = json.loads(json.dumps(loaded.record))
    assert record["configs"] == dict.fromkeys(CELLS.values(), "1.0.0")
    assert record["dir"] == str(root) and record["examples"] == 20 and record["tfds_version"]


def test_tfds_is_cut_to_the_first_examples(from_tfds, cifar):
    whole = shifted.load(from_tfds(), cifar)
    some = shifted.load(from_tfds(**{"eval.max_examples": 7}), cifar)
    assert some.labels.tolist() == whole.labels[:7].tolist() and some.record["examples"] == 7
    np.testing.assert_array_equal(some.images("glass_blur", 5), whole.images("glass_blur", 5)[:7])


def test_tfds_has_all_our_corruptions_by_these_names():
    import tensorflow_datasets

    there = set(tensorflow_datasets.image_classification.Cifar10Corrupted.builder_configs)
    names = [shifted_tfds.TFDS_NAMES.get(name, name) for name in corruptions.CIFAR10_C]
    assert {f"{name}_{s}" for name in names for s in range(1, 6)} == there


def test_tfds_lists_all_that_is_missing_and_says_where_the_same_images_are(from_tfds, cifar):
    message = fails(
        from_tfds(**{"eval.corruptions": ("fog", "glass_blur"), "eval.severities": (1, 2)}), cifar
    )
    for part in (
        "fog_1",
        "fog_2",
        "frosted_glass_blur_2",
        "CIFAR-10-C.tar",
        "--config.eval.source=cifar10_c",
    ):
        assert part in message
    assert "frosted_glass_blur_1" not in message and message.startswith("eval.dir: ")
    missing = fails(from_tfds(**{"eval.dir": "nowhere"}), cifar)
    assert missing == "eval.dir=nowhere is not a directory; give one that exists"


def test_tfds_damage_is_found_before_any_evaluation(from_tfds, corrupted, cifar, tmp_path):
    root = shutil.copytree(corrupted[0], tmp_path / "copy")
    (records,) = root.glob("cifar10_corrupted/elastic_5/1.0.0/*.array_record*")
    whole = records.read_bytes()
    for damage in (lambda: records.write_bytes(whole[: len(whole) // 2]), records.unlink):
        damage()
        message = fails(from_tfds(**{"eval.dir": str(root)}), cifar)
        assert "elastic_5/1.0.0 cannot be read" in message and "--config.eval.dir=DIR" in message


def test_tfds_configurations_of_other_sizes_or_orders_are_refused(from_tfds, corrupted, cifar, tmp_path):
    _, images, labels = corrupted
    root = shutil.copytree(corrupted[0], tmp_path / "copy")
    cell = ("elastic_transform", 5)
    shutil.rmtree(root / "cifar10_corrupted/elastic_5")
    prepare_corrupted(root, "elastic_5", images[cell][:10], labels[:10])
    assert "differ in size: 10, 20" in fails(from_tfds(**{"eval.dir": str(root)}), cifar)
    shutil.rmtree(root / "cifar10_corrupted/elastic_5")
    prepare_corrupted(root, "elastic_5", images[cell], labels[::-1])
    loaded = shifted.load(from_tfds(**{"eval.dir": str(root)}), cifar)
    with pytest.raises(DataError, match=r"elastic_5.*labels are in another order"):
        loaded.images(*cell)


def test_tfds_labels_of_another_set(from_tfds, cifar):
    few = dataclasses.replace(cifar, test_labels=np.arange(20) % 5)
    assert "Are these the files of another data set?" in fails(from_tfds(), few)


# ---- CIFAR-10.1 ----


@pytest.fixture
def published(served, monkeypatch):
    """CIFAR-10.1 v6, served on this machine: (images, labels)."""
    import tensorflow_datasets

    folder, address = served
    rng = np.random.default_rng(6)
    images, labels = (
        rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8),
        np.arange(20, dtype=np.int32) % 10,
    )
    np.save(folder / "v6_data.npy", images)
    np.save(folder / "v6_labels.npy", labels)
    module = tensorflow_datasets.image_classification.cifar10_1
    monkeypatch.setattr(module, "_DL_URL_IMAGES", f"{address}/{{}}_data.npy")
    monkeypatch.setattr(module, "_DL_URL_LABELS", f"{address}/{{}}_labels.npy")
    monkeypatch.setattr(shifted_tfds, "NATURAL_URL", f"{address}/v6_data.npy")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return images, labels


def test_cifar10_1_is_prepared_once_and_read(published, settings, cifar, tmp_path, monkeypatch):
    images, labels = published
    loaded = shifted.load(settings("cifar10_1"), cifar)
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10_1"]
    monkeypatch.setattr(tfds, "_unreachable", lambda *args: pytest.fail("asked for the network"))
    again = shifted.load(settings("cifar10_1", **{"eval.max_examples": 6}), cifar)
    block = loaded.images(None, None)
    assert loaded.names == () and loaded.labels.dtype == np.int32 and block.dtype == np.uint8
    pairs = {(x.tobytes(), int(y)) for x, y in zip(block, loaded.labels, strict=True)}
    assert pairs == {(x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True)}
    np.testing.assert_array_equal(again.images(None, None), block[:6])
    assert again.labels.tolist() == loaded.labels[:6].tolist()
    assert json.loads(json.dumps(again.record))["source"] == "cifar10_1/v6" and again.record["examples"] == 6


def test_cifar10_1_that_breaks_leaves_nothing_and_says_what_helps(
    published, served, settings, cifar, tmp_path
):
    (served[0] / "v6_labels.npy").write_bytes(b"none")
    message = fails(settings("cifar10_1"), cifar)
    assert f"preparing cifar10_1/v6 in {tmp_path} failed" in message
    assert "--config.eval.dir=DIR" in message and "a network" in message
    assert list(tmp_path.iterdir()) == []


def test_cifar10_1_without_network(settings, cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "_unreachable", lambda *args: "no answer")
    message = fails(settings("cifar10_1"), cifar)
    assert message.startswith(f"cifar10_1/v6 is not in {tmp_path}, and cannot be downloaded (no answer)")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_is_evaluated_on_cifar10_1_by_config_and_reported(
    published, make_config, tmp_path, monkeypatch, capsys
):
    """A whole tiny run on images like CIFAR-10's: one step, then CIFAR-10.1 in place of corruptions."""
    random = np.random.default_rng(1)
    images, labels = random.integers(0, 256, (16, 32, 32, 3)).astype(np.uint8), np.arange(16) % 10
    dataset = data.dataset.make("cifar10", data.dataset.Source(images, labels, images, labels, 10), 0)
    monkeypatch.setattr(data, "load", lambda config: dataset)
    overrides = {"data.name": "cifar10", "eval.source": "cifar10_1", "eval.dir": str(tmp_path), "epochs": 1}
    config, workdir = make_config(**overrides), tmp_path / "run"
    result = train.train_and_evaluate(config, workdir)
    assert result["examples"] == 20 and result["clean_examples"] == 16 and result["corruptions"] == {}
    shown = shifted.load(config, dataset)
    logits = predict.load(workdir)(shown.images(None, None) / np.float32(255))
    assert result["shifted"]["accuracy"] == 100 * (logits.argmax(-1) == shown.labels).sum() / 20
    assert result["source_record"]["source"] == "cifar10_1/v6"
    again, path = workdirs.evaluate_workdir(config, workdir)
    assert again["shifted"] == result["shifted"] and path.name == "cifar10_1.json"
    assert report.main([str(workdir)]) == 0
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()
    ]
    percent = f"{result['shifted']['accuracy']:.2f}"
    own = [line for line in lines if line[:3] == [str(workdir), "cifar10_1", "20"]]
    assert [line[4] for line in own] == [percent]
    assert [line[-1] for line in lines if line[1:3] == ["cifar10_1", "cifar10_1"]] == [percent]
    assert measures.value(result, "shifted") == result["shifted"]["accuracy"]
