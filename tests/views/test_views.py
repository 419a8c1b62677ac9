"""Crops and flips against a NumPy loop; corrupted views against `corrupt` of the same crop; the draws.

Deterministic corruptions tell which (name, severity) an image drew: the one whose pixels it has, to the bit.
"""

import collections
import functools
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import corruptions, streams, views
from craft_jax.config import reader
from craft_jax.evaluation.evaluate import logits_of
from craft_jax.mesh import make_mesh, split_over
from craft_jax.training.batches import Batches
from craft_jax.views.corrupted import deal, hands
from tests.conftest import some_slow

ROOT = Path(__file__).resolve().parents[2]
SIZE = 16  # the least that corruptions take

# Compiling is what takes time here.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
crop_and_flip = jit(views.crop_and_flip, static_argnames=("padding", "flip"))


def pixels(seed, batch, height=SIZE, width=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3)).astype(np.uint8)


def make_config(names=("contrast",), severities=(5,), lanes=2, padding=2, flip=True):
    config = reader.load(str(ROOT / "configs" / "craft.py"))
    config.views.corruptions, config.views.severities = tuple(names), tuple(severities)
    config.views.lanes, config.data.crop_padding, config.data.flip = lanes, padding, flip
    return config


def maker(count, config):
    """A jitted (crop key, corruption key, uint8 images) -> views, NumPy, for uint8 NumPy images."""
    mesh = make_mesh()

    def make(crop_key, corruption_key, images):
        return views.make(crop_key, corruption_key, images, count, config, mesh)

    jitted = jit(make)

    def call(crop_seed, corruption_seed, images):
        images = jax.device_put(images, split_over(mesh))
        return np.asarray(jitted(jax.random.key(crop_seed), jax.random.key(corruption_seed), images))

    return call


def levels(images):
    """Whole grey levels, for comparisons to the bit."""
    found = np.rint(np.asarray(images, np.float64) * 255).astype(int)
    np.testing.assert_allclose(found / 255, images, rtol=0, atol=1e-6)
    return found


def corrupt(images, name, severity):
    """The levels of a deterministic corruption; images are (B, H, W, 3) levels."""
    return levels(corruptions.corrupt(jax.random.key(0), jnp.float32(images) / 255, name, severity))


# ----------------------------------------------------------------------------------------------------
# Crop and flip


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("padding", "height", "width"), [(0, 3, 3), (1, 2, 5), (4, 6, 4)])
def test_crop_and_flip_is_the_loop(padding, height, width, flip):
    batch, key = 12, jax.random.key(3)
    images = pixels(0, batch, height, width)
    found = crop_and_flip(key, jnp.asarray(images), padding, flip)
    assert found.dtype == jnp.uint8 and found.shape == images.shape

    crop_key, flip_key = jax.random.split(key)
    corners = np.asarray(jax.random.randint(crop_key, (batch, 2), 0, 2 * padding + 1))
    mirrored = np.asarray(jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1))).ravel()
    expected = np.zeros_like(images)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                to = width - 1 - x if flip and mirrored[b] else x
                row, column = y + corners[b, 0] - padding, x + corners[b, 1] - padding
                if 0 <= row < height and 0 <= column < width:  # zero outside
                    expected[b, y, to] = images[b, row, column]
    np.testing.assert_array_equal(found, expected)
    if padding and flip:
        assert len(np.unique(corners, axis=0)) > 3 and 0 < mirrored.sum() < batch


def test_without_padding_and_flip_it_is_the_identity():
    images = pixels(1, 4)
    np.testing.assert_array_equal(crop_and_flip(jax.random.key(0), images, 0, False), images)


def test_crops_and_flips_are_uniform_whatever_the_draws():
    """A 2x2 image of four distinct values, padding 1: 9 crops x 2 flips, told apart by their pixels.

    The generous bounds are chi-square's upper 1e-4 points.
    """
    image = np.arange(1, 5, dtype=np.uint8).reshape(2, 2, 1)
    variants = {}
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    for y in range(3):
        for x in range(3):
            crop = padded[y : y + 2, x : x + 2]
            variants[crop.tobytes()] = (y, x, 0)
            variants[crop[:, ::-1].tobytes()] = (y, x, 1)
    assert len(variants) == 18
    batch = 3600
    found = np.asarray(
        crop_and_flip(jax.random.key(11), jnp.asarray(np.repeat(image[None], batch, 0)), 1, True)
    )
    counts = collections.Counter(variants[x.tobytes()] for x in found)
    chi = sum((counts[v] - batch / 18) ** 2 / (batch / 18) for v in variants.values())
    assert chi < 47.6, counts  # 17 degrees of freedom
    flips = sum(n for (_, _, flip), n in counts.items() if flip)
    assert abs(flips - batch / 2) < 4 * np.sqrt(batch / 4)


def test_other_keys_give_other_crops():
    images = pixels(2, 8)
    a, b = (np.asarray(crop_and_flip(jax.random.key(k), images, 4, True)) for k in (0, 1))
    assert (a != b).any(axis=(1, 2, 3)).sum() >= 6


# ----------------------------------------------------------------------------------------------------
# The views of a batch


def test_view_0_is_the_crop_and_the_others_its_corruption():
    """Every view corrupts view 0's own crop: with another crop `contrast` would give other pixels."""
    images = pixels(3, 6)
    found = maker(3, make_config())(5, 6, images)
    assert found.shape == (6, 3, SIZE, SIZE, 3) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    crop = np.asarray(crop_and_flip(jax.random.key(5), images, 2, True))
    assert (crop != images).any(axis=(1, 2, 3)).sum() >= 5, "the crops are not trivial"
    np.testing.assert_allclose(found[:, 0], crop / 255.0, rtol=0, atol=1e-7)
    expected = corrupt(crop, "contrast", 5)
    for m in (1, 2):
        np.testing.assert_array_equal(levels(found[:, m]), expected)


def test_without_padding_and_flip_view_0_is_the_image():
    images = pixels(4, 2)
    found = maker(1, make_config(padding=0, flip=False))(0, 0, images)
    assert found.shape == (2, 1, SIZE, SIZE, 3)
    np.testing.assert_array_equal(levels(found[:, 0]), images)


NAMES, SEVERITIES = ("contrast", "brightness", "saturate"), (2, 5)
PAIRS = [(name, severity) for name in NAMES for severity in SEVERITIES]


def drawn(view, crop):
    """The number in PAIRS of the pair each image drew; fails where it is none's, or more than one's."""
    match = np.stack([(corrupt(crop, *pair) == levels(view)).all(axis=(1, 2, 3)) for pair in PAIRS])
    assert (match.sum(0) == 1).all()
    return match.argmax(0)


@pytest.fixture(scope="module")
def many():
    """The draws of two views of 288 images in 2 lanes, and of another step's: four rows."""
    images = pixels(5, 288)
    make = maker(3, make_config(NAMES, SEVERITIES, padding=0, flip=False))
    return np.stack([drawn(make(0, step, images)[:, m], images) for step in (1, 2) for m in (1, 2)])


def test_every_pair_gets_its_share_of_every_view(many):
    """144 images a lane: 48 a corruption, exactly, as they divide evenly; severities are drawn one by one."""
    for lane in many.reshape(4, 2, 144).reshape(8, 144):
        np.testing.assert_array_equal(np.bincount(lane // 2, minlength=3), 48)
    counts = np.bincount(many.ravel(), minlength=6)
    chi = sum((counts[::2] - counts[1::2]) ** 2 / (counts[::2] + counts[1::2]))
    assert chi < 21.1, counts  # 3 degrees of freedom, upper 1e-4


def test_views_steps_and_images_draw_independently(many):
    for a in range(4):
        for b in range(a):
            same = (many[a] == many[b]).sum()
            assert 22 < same < 74, "48 of 288 agree by chance"
        neighbours = (many[a, 1:] == many[a, :-1]).sum()
        assert 22 < neighbours < 74


def test_every_image_is_equally_likely_to_get_each_pair_where_they_do_not_divide():
    """5 images for a hand each of three corruptions and spatter's two: 2 + 2 + 1 + 1 + 2 slots for them.

    Exact for all places and pairs alike, within what 20,000 deals can show.
    """
    names = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
    table = hands(names, (1, 2, 3, 4, 5), (32, 32, 3), 5)
    assert [hand.slots.stop - hand.slots.start for hand in table.hands] == [2, 2, 1, 1, 2]
    dealt = jax.jit(jax.vmap(functools.partial(deal, table)))(jax.random.split(jax.random.key(0), 20_000))
    # Every image is in one slot, and that slot has it.
    np.testing.assert_array_equal(
        np.take_along_axis(np.asarray(dealt.image), np.asarray(dealt.slot), 1),
        np.tile(np.arange(5), (20_000, 1)),
    )
    of_slot = np.concatenate(
        [np.full(hand.slots.stop - hand.slots.start, names.index(hand.name)) for hand in table.hands]
    )
    severities = np.take_along_axis(np.asarray(dealt.severity), np.asarray(dealt.slot), 1)
    cells = 5 * of_slot[dealt.slot] + severities - 1
    counts = np.stack([np.bincount(cells[:, image], minlength=20) for image in range(5)])
    z = (counts - 1000) / np.sqrt(20_000 * 0.05 * 0.95)
    assert np.abs(z).max() < 4.5, counts
    for hand in table.hands:
        assert set(np.unique(np.asarray(dealt.severity)[:, hand.slots])) == set(hand.severities)


def test_one_image_a_lane_is_dealt_too():
    """Fewer images than corruptions: one slot each, one of them used."""
    table = hands(NAMES, SEVERITIES, (SIZE, SIZE, 3), 1)
    dealt = jax.jit(jax.vmap(functools.partial(deal, table)))(jax.random.split(jax.random.key(1), 3000))
    counts = np.bincount(np.asarray(dealt.slot).ravel(), minlength=3)
    assert counts.sum() == 3000 and np.abs(counts - 1000).max() < 4.5 * np.sqrt(3000 * 2 / 9)


def test_noise_differs_between_images_views_and_steps():
    """Four copies of one grey image, in two lanes: no two of their noises are the same."""
    images = np.full((4, SIZE, SIZE, 3), 128, np.uint8)
    make = maker(3, make_config(("gaussian_noise",), (3,), padding=0))
    stack = [make(0, seed, images)[:, 1:] for seed in (1, 2)]
    flat = levels(np.concatenate(stack)).reshape(16, -1)
    for a in range(16):
        for b in range(a):
            assert abs(np.corrcoef(flat[a], flat[b])[0, 1]) < 0.2
    np.testing.assert_array_equal(stack[0], make(0, 1, images)[:, 1:])  # and it repeats


def test_a_view_does_not_depend_on_how_many_there_are():
    """KD on two views and CRAFT on three meet the same ones: comparisons share their views."""
    images = pixels(6, 12)
    config = make_config(("contrast",), (1, 5))
    two, three = maker(2, config)(1, 2, images), maker(3, config)(1, 2, images)
    np.testing.assert_array_equal(two, three[:, :2])
    assert (three[:, 1] != three[:, 2]).any()
    np.testing.assert_array_equal(maker(1, config)(1, 99, images)[:, 0], three[:, 0])


# ----------------------------------------------------------------------------------------------------
# Devices

HASH = """
import json
import jax
from tests.views import test_views
print(json.dumps([jax.device_count(), *test_views.fingerprints()]))
"""


def fingerprints():
    """Hashes of three views, AugMix's, a batch, and images corrupted for evaluation, on all devices here."""
    config, mesh, images = (
        make_config(("contrast", "gaussian_noise"), (4,), lanes=8),
        make_mesh(),
        pixels(7, 24),
    )
    found = [*np.moveaxis(maker(3, config)(1, 2, images), 1, 0)]
    config.views.kind = "augmix"
    found.append(maker(2, config)(1, 2, images)[:, 1])
    dataset = SimpleNamespace(train_images=images, train_labels=np.arange(24, dtype=np.int32))
    found.append(np.asarray(Batches(dataset, 8, 0, mesh)(3)["image"]))
    # 7 images in batches of 6: the padded tail lies on the devices in another way.
    network = (lambda _, x: x.reshape(len(x), -1), ())
    found += logits_of([network], images[:7], 6, mesh, "contrast", 3)
    return [hashlib.sha256(array.tobytes()).hexdigest() for array in found]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="compares with virtual CPU devices")
@pytest.mark.parametrize("devices", some_slow([2, 8], [2]))
def test_the_number_of_devices_does_not_matter(devices):
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.run(
        [sys.executable, "-c", HASH],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    count, *hashes = json.loads(process.stdout)
    assert count == devices
    assert hashes == fingerprints()
    assert len(set(hashes)) == 6


# ----------------------------------------------------------------------------------------------------
# The streams that the step takes its keys from


def test_streams_are_folded_from_seed_step_and_name():
    names = ("DATA_ORDER", "CROPS", "CORRUPTIONS", "INIT", "METHOD_INIT", "METHOD")
    numbers = [getattr(streams, name) for name in names]
    assert len(set(numbers)) == len(numbers)
    keys = set()
    for seed in (0, 1, 2**31 - 1):
        for step in (0, 1, 78_000):
            for number in numbers:
                key = streams.stream(seed, step, number)
                expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), number)
                np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(expected))
                keys.add(tuple(np.asarray(jax.random.key_data(key)).tolist()))
    assert len(keys) == 9 * len(numbers)


def test_a_traced_step_gives_the_same_key():
    traced = jax.jit(lambda step: jax.random.key_data(streams.stream(4, step, streams.CROPS)))(jnp.int32(17))
    np.testing.assert_array_equal(traced, jax.random.key_data(streams.stream(4, 17, streams.CROPS)))
