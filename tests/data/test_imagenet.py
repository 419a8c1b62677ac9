"""ImageNet in TFDS's records and in its own directories, ImageNet-C in its, and random resized crops."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from craft_jax import data, main, pictures
from craft_jax.corruptions import CIFAR10_C
from craft_jax.data import shifted
from craft_jax.errors import DataError
from craft_jax.evaluation import robustness
from craft_jax.views import crops
from tests.conftest import small_config

WNIDS = ("n01440764", "n01443537", "n01484850")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def jpeg(number):
    """A picture of a size of its own, as a file."""
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((40 + number % 7, 36 + number % 5), Image.Resampling.BICUBIC).save(
        stream, "JPEG"
    )
    return stream.getvalue()


def write(folder, numbers):
    """Pictures of these numbers, dealt out to the classes."""
    for number in numbers:
        path = folder / WNIDS[number % 3] / f"ILSVRC2012_val_{number:08}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "imagenet" / "train", range(32))
    write(tmp_path / "imagenet" / "val", range(100, 109))
    return tmp_path / "imagenet"


def config_of(root, name="folder", **more):
    settings = {"data.name": name, "data.dir": str(root), "data.size": 16, "data.test_crop": 0.875}
    return small_config("erm", **settings | more)


def middle(number, share):
    """Resized at once from the middle square, its share of the shorter side."""
    picture = Image.open(io.BytesIO(jpeg(number)))
    side = min(picture.size) * share
    left, top = ((length - side) / 2 for length in picture.size)
    box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR, box=box))


@pytest.mark.parametrize("streaming", ["never", "always"])
def test_imagenets_directories_with_the_middle_of_test_pictures(root, streaming):
    loaded = data.load(config_of(root, **{"data.streaming": streaming}))
    assert loaded.classes == WNIDS and loaded.train_images.shape == (32, 16, 16, 3)
    assert isinstance(loaded.train_images, data.Encoded) == (streaming == "always")
    assert loaded.test_labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    for images, numbers, share in (
        (loaded.train_images, range(32), 1),
        (loaded.test_images, range(100, 109), 0.875),
    ):
        in_order = sorted(numbers, key=lambda number: (number % 3, number))
        for row, number in enumerate(in_order):
            np.testing.assert_array_equal(np.asarray(images[np.array([row])])[0], middle(number, share))


def test_another_middle_is_another_data_set(root):
    whole, cropped = (data.load(config_of(root, **{"data.test_crop": share})) for share in (1.0, 0.875))
    assert whole.fingerprint != cropped.fingerprint
    np.testing.assert_array_equal(whole.train_images, cropped.train_images)
    again = data.load(config_of(root))  # from the cache
    np.testing.assert_array_equal(again.test_images, cropped.test_images)


def prepare(root, train, validation):
    """DIR/imagenet2012/5.1.0 as TFDS writes it, of these numbers' pictures."""
    import tensorflow_datasets as tfds

    class Imagenet2012(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("5.1.0")
        name = "imagenet2012"

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=list(WNIDS)),
                "file_name": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(train),
                "validation": self._generate_examples(validation),
            }

        def _generate_examples(self, numbers):
            for i in numbers:
                yield i, {"image": io.BytesIO(jpeg(i)), "label": i % 3, "file_name": f"{i}.JPEG"}

    Imagenet2012(data_dir=root, file_format="array_record").download_and_prepare()


def test_tfds_records_are_read_as_the_directories_are(tmp_path):
    prepare(tmp_path / "tfds", range(32), range(100, 109))
    config = config_of(tmp_path / "tfds", "imagenet2012", **{"data.streaming": "always"})
    streamed = data.load(config)
    config.data.streaming = "never"
    resident = data.load(config)
    assert streamed.classes == WNIDS and streamed.mean == resident.mean == (0.485, 0.456, 0.406)
    assert isinstance(streamed.train_images, data.Encoded) and streamed.fingerprint == resident.fingerprint
    np.testing.assert_array_equal(np.asarray(streamed.train_images), resident.train_images)
    seen = set()
    for images, labels, share in (
        (resident.train_images, resident.train_labels, 1),
        (resident.test_images, resident.test_labels, 0.875),
    ):
        wanted = {middle(n, share).tobytes(): n for n in (range(32) if share == 1 else range(100, 109))}
        for image, label in zip(images, labels, strict=True):  # in the order of TFDS's shuffle
            number = wanted[image.tobytes()]
            seen.add(number)
            assert number % 3 == label
    assert len(seen) == 32 + 9


def test_imagenet_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"does not have imagenet2012/VERSION.*data.name=folder"):
        data.load(config_of(tmp_path, "imagenet2012"))
    with pytest.raises(DataError, match=r"data.size is 0"):
        data.load(config_of(tmp_path, "imagenet2012", **{"data.size": 0}))


# ----------------------------------------------------------------------------------------------------
# ImageNet-C


@pytest.fixture
def corrupted(tmp_path):
    for name in ("fog", "contrast"):
        for severity in (1, 5):
            write(tmp_path / "C" / name / str(severity), range(100, 109))
    return tmp_path / "C"


def of_c(root, corrupted, **more):
    cells = {"eval.corruptions": ("fog", "contrast"), "eval.severities": (1, 5)}
    source = {"eval.source": "imagenet_c", "eval.dir": str(corrupted)}
    return config_of(root, **source | cells | more)


def test_imagenet_c_streams_in_the_order_of_the_test_pictures(root, corrupted):
    config = of_c(root, corrupted)
    dataset = data.load(config)
    found = shifted.load(config, dataset)
    assert found.names == ("fog", "contrast") and found.record["images"] == 9
    np.testing.assert_array_equal(found.labels, dataset.test_labels)
    images = found.images("fog", 5)
    assert isinstance(images, data.Encoded) and images.shape == (9, 16, 16, 3)
    # 224 pixels are taken as they are: whole pictures, whatever data.test_crop is.
    np.testing.assert_array_equal(images[np.array([0])][0], middle(102, 1.0))
    assert json.dumps(found.record)
    config.eval.max_examples = 4
    few = shifted.load(config, dataset)
    assert len(few.labels) == 4 and few.images("fog", 1).shape[0] == 4
    assert few.record["fingerprint"] == found.record["fingerprint"]
    (corrupted / "fog" / "5" / WNIDS[0] / "ILSVRC2012_val_00000102.JPEG").write_bytes(jpeg(3))
    assert shifted.load(config, dataset).record["fingerprint"] != found.record["fingerprint"]


def test_what_is_wrong_with_imagenet_c(root, corrupted):
    config = of_c(root, corrupted)
    dataset = data.load(config)

    def fails(**changes):
        changed = of_c(root, corrupted, **changes)
        with pytest.raises(DataError) as error:
            shifted.load(changed, dataset)
        return str(error.value)

    assert "there is no fog/3" in fails(**{"eval.severities": (1, 3)})
    assert "is not a directory" in fails(**{"eval.dir": str(corrupted / "none")})
    moved = corrupted / "fog" / "5" / WNIDS[0] / "ILSVRC2012_val_00000102.JPEG"
    moved.rename(moved.with_name("other.JPEG"))
    assert "fog/5 have other pictures than fog/1" in fails()
    moved.with_name("other.JPEG").rename(moved)
    for cell in corrupted.glob("*/*"):
        write(cell, [200])
    assert "has class 2 4 times" in fails()
    for path in corrupted.glob("*/*/*"):
        path.rename(path.with_name(f"x{path.name}"))
    assert "folder has no class xn01440764" in fails()


def test_errors_against_alexnets():
    accuracies = {name: [50.0, 40.0, 30.0, 20.0, 10.0] for name in robustness.ALEXNET}
    found = robustness.against_alexnet(accuracies)
    assert set(accuracies) == set(CIFAR10_C[:15])
    assert found["ce"]["brightness"] == pytest.approx(100 * 70 / 56.4592)
    assert found["mce"] == pytest.approx(np.mean([100 * 70 / error for error in robustness.ALEXNET.values()]))
    accuracies["fog"][2] = None
    partial = robustness.against_alexnet(accuracies)
    assert partial["mce"] is None and partial["ce"]["fog"] is None
    assert robustness.against_alexnet({"fog": [50.0] * 5, "spatter": [50.0] * 5})["ce"]["spatter"] is None


@pytest.mark.slow
def test_a_run_with_imagenets_keys_is_evaluated_on_imagenet_c(root, corrupted, tmp_path, capsys):
    """By the command: streaming, resized crops, bfloat16, two parts, blocks that are computed again."""
    settings = {"data.name": "folder", "data.dir": root, "data.size": 16, "data.streaming": "always"}
    settings |= {"data.workers": 0, "student.name": "tiny", "batch_size": 16, "epochs": 1}
    settings |= {"optimizer.accumulate_steps": 2, "student.remat": True, "eval.corruptions": "contrast"}
    settings |= {"eval.severities": 5, "compilation_cache": False, "log.progress": False}
    settings |= {"log.tensorboard": False, "data.flip": True, "method": "erm"}
    words = ["--config=configs/craft_imagenet.py:smoke", f"--workdir={tmp_path / 'run'}"]
    assert main.main([*words, *(f"--config.{key}={value}" for key, value in settings.items())]) == 0
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (
        result["status"] == "done" and result["step"] == 2 and result["config"]["data"]["crop"] == "resized"
    )
    words = ["--mode=eval", words[1], "--config.eval.source=imagenet_c", f"--config.eval.dir={corrupted}"]
    assert main.main([*words, "--config.eval.corruptions=fog,contrast", "--config.eval.severities=1,5"]) == 0
    (path,) = (tmp_path / "run" / "eval").glob("imagenet_c*.json")
    result = json.loads(path.read_text())
    assert result["same_images"] and result["examples"] == 9 and "against_alexnet" not in result
    assert set(result["corruptions"]) == {"fog", "contrast"}
    capsys.readouterr()


# ----------------------------------------------------------------------------------------------------
# Random resized crops


def enlarged(image, box, size):
    """float64: half-pixel centres, ends repeated, a loop over the pixels."""
    top, left, tall, wide = map(int, box)
    found = np.zeros((size, size, 3))
    for i in range(size):
        for j in range(size):
            y = np.clip((i + 0.5) * tall / size - 0.5, 0, tall - 1)
            x = np.clip((j + 0.5) * wide / size - 0.5, 0, wide - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, tall - 1), min(x0 + 1, wide - 1)
            part = image[top : top + tall, left : left + wide].astype(np.float64)
            above = part[y0, x0] * (1 - x % 1) + part[y0, x1] * (x % 1)
            below = part[y1, x0] * (1 - x % 1) + part[y1, x1] * (x % 1)
            found[i, j] = above * (1 - y % 1) + below * (y % 1)
    return found


def test_the_largest_side_of_a_resized_crop_is_the_largest_that_int32_counts():
    def stays(side):  # a box of the whole image, which is that of the largest numbers
        column = jnp.arange(side, dtype=jnp.int32)[:, None, None] % 256
        return bool((crops._enlarged(column, 0, side, side) == 256 * column).all())

    assert stays(crops.LARGEST_SIDE) and not stays(crops.LARGEST_SIDE + 1)


def test_a_resized_crop_is_a_box_enlarged():
    random, key = np.random.default_rng(0), jax.random.key(3)
    coarse = random.integers(0, 256, (6, 5, 5, 3)).astype(np.uint8)
    images = np.stack(
        [np.asarray(Image.fromarray(x).resize((24, 24), Image.Resampling.BICUBIC)) for x in coarse]
    )
    found = np.asarray(crops.resized_crop_and_flip(key, jnp.asarray(images), (0.08, 1.0), False))
    drawn = np.asarray(crops.boxes(jax.random.split(key)[0], 6, 24, 24, (0.08, 1.0)))
    assert len({tuple(box) for box in drawn}) == 6
    for image, box, crop in zip(images, drawn, found, strict=True):
        # Weights are 256ths: of steep edges more than a level is off nowhere.
        assert np.abs(crop - enlarged(image, box, 24)).max() < 1.5
        top, left, tall, wide = map(float, box)
        pillow = Image.fromarray(image).resize(
            (24, 24), Image.Resampling.BILINEAR, box=(left, top, left + wide, top + tall)
        )
        # Pillow reads beyond the box where there is more of the image; inside both are the same.
        assert np.abs(crop.astype(int) - np.asarray(pillow))[3:-3, 3:-3].max() <= 2
    whole = crops.resized_crop_and_flip(key, jnp.asarray(images), (1.0, 1.0), False)
    still = np.asarray(crops.boxes(jax.random.split(key)[0], 6, 24, 24, (1.0, 1.0)))
    for image, box, crop in zip(images, still, whole, strict=True):
        if tuple(box[2:]) == (24, 24):
            np.testing.assert_array_equal(crop, image)
    flipped = np.asarray(crops.resized_crop_and_flip(key, jnp.asarray(images), (0.08, 1.0), True))
    mirrored = [not (crop == other).all() for crop, other in zip(found, flipped, strict=True)]
    assert 0 < sum(mirrored) < 6
    for crop, other, is_mirrored in zip(found, flipped, mirrored, strict=True):
        np.testing.assert_array_equal(crop[:, ::-1] if is_mirrored else crop, other)


def test_boxes_are_spread_as_published():
    top, left, tall, wide = np.asarray(crops.boxes(jax.random.key(0), 4000, 64, 64, (0.08, 1.0))).T
    assert (top >= 0).all() and (top + tall <= 64).all() and (left >= 0).all() and (left + wide <= 64).all()
    share, ratio = tall * wide / 64**2, wide / tall
    assert 0.07 < share.min() < 0.1 and share.max() <= 1
    assert 0.7 < ratio.min() < 0.78 and 1.28 < ratio.max() < 1.43
    # As a loop draws them, torchvision's scheme written out.
    random, drawn = np.random.default_rng(1), []
    while len(drawn) < 4000:
        area, ratio = random.uniform(0.08, 1) * 64**2, np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if w <= 64 and h <= 64:
            drawn.append((random.integers(0, 64 - h + 1), h * w / 64**2))
    assert abs(share.mean() - np.mean([x for _, x in drawn])) < 0.02
    assert abs(top.mean() - np.mean([x for x, _ in drawn])) < 1.2
    assert np.corrcoef(top[tall < 40], left[tall < 40])[0, 1] < 0.1


def test_what_pillow_reads_of_a_share(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(7))
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.jpg", 16, 16, 0.5), middle(7, 0.5))
