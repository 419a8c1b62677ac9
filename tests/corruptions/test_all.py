"""`corrupt` itself, and the corruptions of one formula, against float64 references in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from craft_jax import corruptions
from craft_jax.corruptions import corrupt
from tests.conftest import some_slow
from tests.corruptions.given import keyed
from tests.corruptions.references import REFERENCES, pixelated
from tests.corruptions.statistics import agreement
from tests.corruptions.test_helpers import corrupted, photographs

SEVERITIES = (1, 2, 3, 4, 5)
RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")


def unit(images):
    return np.float32(images) / np.float32(255)


# ---------------------------------------------------------------- the interface


def test_names_and_families():
    assert len(corruptions.TEST) == 15 and len(corruptions.EXTRA) == 4
    assert corruptions.NAMES == corruptions.CIFAR10_C + corruptions.CIFAR10_C_BAR
    assert corruptions.CIFAR10_C == corruptions.TEST + corruptions.EXTRA
    assert len(corruptions.CIFAR10_C_BAR) == 10 and len(set(corruptions.NAMES)) == 29
    assert set(corruptions.NAMES) == set(corruptions.CORRUPTIONS)
    assert sorted(sum(corruptions.FAMILIES.values(), ())) == sorted(corruptions.TEST)
    assert list(corruptions.FAMILIES) == ["noise", "blur", "weather", "digital"]


@pytest.mark.usefixtures("without_hook")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "gausian_noise"}, "unknown corruption 'gausian_noise'.*shot_noise"),
        ({"severity": 0}, r"severity.*\(1, 2, 3, 4, 5\), got 0"),
        ({"severity": 6}, r"severity.*\(1, 2, 3, 4, 5\), got 6"),
        ({"severity": 2.0}, "severity must be a Python int"),
        ({"severity": True}, "severity must be a Python int"),
        ({"images": np.zeros((2, 32, 32, 3), np.int32)}, "float32.*or uint8, got int32"),
        ({"images": np.zeros((2, 32, 32, 3))}, "float32.*float64"),
        ({"images": np.zeros((32, 32, 3), np.float32)}, r"\(B, H, W, 3\).*\(32, 32, 3\)"),
        ({"images": np.zeros((2, 32, 32, 1), np.float32)}, r"\(B, H, W, 3\).*\(2, 32, 32, 1\)"),
        ({"images": np.zeros((2, 8, 32, 3), np.float32)}, "H, W >= 16"),
        ({"images": [[0.5]]}, "images must be"),
        ({"key": jax.random.split(jax.random.key(0), 3)}, r"one for each of 2 images.*\(3,\)"),
        ({"key": 7}, "key must be a JAX key"),
    ],
)
def test_errors_say_what_is_allowed(change, message):
    call = {
        "key": jax.random.key(0),
        "images": np.zeros((2, 32, 32, 3), np.float32),
        "name": "contrast",
        "severity": 1,
    }
    with pytest.raises(ValueError, match=message):
        corrupt(**{**call, **change})


@pytest.mark.usefixtures("without_hook")
def test_traced_severity_is_refused():
    images = np.zeros((1, 32, 32, 3), np.float32)
    with pytest.raises(ValueError, match="severity must be a Python int"):
        jax.jit(lambda s: corrupt(jax.random.key(0), images, "contrast", s))(1)


def test_pixels_are_rounded_first():
    images = unit(photographs())
    nudged = np.clip(images + np.float32(0.4 / 255), 0, 1)
    for name in ("contrast", "impulse_noise"):
        want = corrupt(jax.random.key(0), images, name, 3)
        np.testing.assert_array_equal(corrupt(jax.random.key(0), nudged, name, 3), want)


@pytest.mark.parametrize("name", some_slow(corruptions.NAMES, (*corruptions.CIFAR10_C, "sparkles")))
def test_an_image_depends_on_its_own_key_and_pixels_alone(name):
    images, key = unit(photographs()), jax.random.key(3)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(24))
    whole = np.asarray(corrupt(key, images, name, 4))
    order = np.random.default_rng(0).permutation(24)
    np.testing.assert_array_equal(corrupt(keys[order], images[order], name, 4), whole[order])
    raw = jax.random.key_data(keys[order])
    np.testing.assert_array_equal(corrupt(raw, images[order], name, 4), whole[order])
    np.testing.assert_array_equal(corrupt(jax.random.key_data(key), images, name, 4), whole)
    batched = ("gaussian_noise", "zoom_blur", "pixelate", "snow", "elastic_transform")
    if name in (*batched, "brownish_noise", "circular_motion_blur", "sparkles"):
        few = order[:3]  # another batch is another program
        np.testing.assert_array_equal(corrupt(keys[few], images[few], name, 4), whole[few])


@pytest.mark.parametrize("name", RANDOM)
def test_draws_differ_between_images_and_keys(name):
    images = np.repeat(photographs()[:12], 2, axis=0)
    first, second = corrupted(images, name, 3), corrupted(images, name, 3, seed=1)
    assert (first[0] != first[1]).any() and (first[0] != second[0]).any()


def test_inside_switch_map_and_shard_map():
    images, keys = unit(photographs(6)), jax.random.split(jax.random.key(0), 6)
    names = ("gaussian_blur", "shot_noise", "saturate")
    branches = [functools.partial(corrupt, name=name, severity=2) for name in names]

    def group(args):
        return jax.lax.switch(args[0], branches, args[1], args[2])

    grouped = images.reshape(3, 2, 32, 32, 3)
    mapped = jax.jit(lambda *a: jax.lax.map(group, a))(jnp.arange(3), keys.reshape(3, 2), grouped)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    spec = jax.sharding.PartitionSpec("data")
    for i, name in enumerate(names):
        pair = slice(2 * i, 2 * i + 2)
        want = corrupt(keys[pair], images[pair], name, 2)
        np.testing.assert_array_equal(np.asarray(mapped[i]), want)
        one = functools.partial(corrupt, name=name, severity=2)
        shared = jax.jit(jax.shard_map(one, mesh=mesh, in_specs=(spec, spec), out_specs=spec))
        np.testing.assert_array_equal(shared(keys[pair], images[pair]), want)


# ---------------------------------------------------------------- without randomness


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", ["brightness", "saturate", "contrast", "gaussian_blur"])
def test_within_one_level_of_float64(name, severity):
    images = photographs()
    want = [REFERENCES[name].apply(image, severity) for image in images]
    same, largest = agreement(corrupted(images, name, severity), want)
    assert largest <= 1 and same >= 0.95, f"{same:.4f} equal, at most {largest} levels"


@pytest.mark.parametrize("name", ["brightness", "saturate"])
def test_greys_black_and_primaries(name):
    colours = np.array([0, 1, 128, 254, 255])
    grid = np.stack(np.meshgrid(colours, colours, colours), -1).reshape(-1, 3)
    image = np.resize(grid, (16, 16, 3)).astype(np.uint8)
    image = np.tile(image, (2, 2, 1))
    for severity in SEVERITIES:
        got = corrupted(np.repeat(image[None], 24, 0), name, severity)
        assert agreement(got[0], REFERENCES[name].apply(image, severity))[1] <= 1


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 16), (40, 25), (224, 224)])
def test_pixelate_is_pillows_to_the_bit(height, width):
    images = photographs(4, size=max(height, width))[:, :height, :width]
    shares = (0.95, 0.9, 0.85, 0.75, 0.65) if height < 64 else (0.6, 0.5, 0.4, 0.3, 0.25)
    for severity in SEVERITIES if height == 32 else (3,):
        share = shares[severity - 1]
        want = np.stack([pixelated(image, share) for image in images])
        np.testing.assert_array_equal(corrupted(images, "pixelate", severity), want)


# ---------------------------------------------------------------- noise


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def noise_statistics(images, noisy):
    change = noisy.astype(float) - images
    return {
        "mean": change.mean(),
        "std": change.std(),
        "mean absolute": np.abs(change).mean(),
        "black": (noisy == 0).mean() * 100,
        "white": (noisy == 255).mean() * 100,
        "unchanged": (change == 0).mean() * 100,
        "rows": correlation(change[:, 1:], change[:, :-1]) * 10,
        "columns": correlation(change[:, :, 1:], change[:, :, :-1]) * 10,
        "red and green": correlation(change[..., 0], change[..., 1]) * 10,
        "red and blue": correlation(change[..., 0], change[..., 2]) * 10,
    }


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", RANDOM)
def test_noise_has_the_originals_distribution(name, severity):
    images = np.concatenate([photographs()] * 4)
    noisy = [corrupted(photographs(), name, severity, seed) for seed in range(4)]
    got = noise_statistics(images, np.concatenate(noisy))
    random, runs = np.random.default_rng(severity), []
    for _ in range(4):
        runs.append(noise_statistics(images, REFERENCES[name].apply(images, severity, random)))
    for key, value in got.items():
        want = np.mean([run[key] for run in runs])
        # 295,000 values: the standard error of each figure is under 0.05 of its unit, but for
        # impulse noise, of whose standard deviation (few elements change, by much) it is 0.1.
        limit = 0.4 if name == "impulse_noise" else 0.2
        assert abs(value - want) < limit, f"{key}: {value:.3f}, the original {want:.3f}"


def level_distribution(name, level, severity):
    """P(truncated level <= j), j = 0..254, for a flat image, from SciPy's distributions."""
    j, i = np.arange(255), severity - 1
    if name == "shot_noise":
        photons = (500, 250, 100, 75, 50)[i]
        counts = np.arange(photons + 1)
        levels = (np.clip(counts / photons, 0, 1) * 255).astype(int)
        chance = stats.poisson.pmf(counts, level / 255 * photons)
        return np.array([chance[(levels <= k) & (counts < photons)].sum() for k in j])
    scale = {"gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10)[i] * 255}
    scale["speckle_noise"] = (0.06, 0.1, 0.12, 0.16, 0.2)[i] * level
    return stats.norm.cdf(j + 1, level, scale[name])


@pytest.mark.parametrize("severity", (1, 5))
@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "speckle_noise"])
def test_distribution_at_one_level(name, severity):
    """Kolmogorov and Smirnov's distance on flat images, of three levels, 1 in 100,000 by chance."""
    for level in (3, 100, 240):
        images = np.full((24, 32, 32, 3), level, np.uint8)
        levels = np.stack([corrupted(images, name, severity, seed) for seed in (1, 2)])
        share = np.cumsum(np.bincount(levels.ravel(), minlength=256))[:255] / levels.size
        distance = np.abs(share - level_distribution(name, level, severity)).max()
        assert distance < 2.5 / np.sqrt(levels.size), (level, distance)


def test_impulse_noise_is_half_salt_half_pepper_in_each_channel():
    images = np.full((24, 32, 32, 3), 128, np.uint8)
    levels = np.concatenate([corrupted(images, "impulse_noise", 5, seed) for seed in range(3)])
    assert set(np.unique(levels)) == {0, 128, 255}
    error = 4 * np.sqrt(0.035 / (levels.size / 3))
    for channel in range(3):
        assert abs((levels[..., channel] == 255).mean() - 0.035) < error
        assert abs((levels[..., channel] == 0).mean() - 0.035) < error
    all_three = (levels != 128).all(-1).mean()
    assert all_three < 10 * 0.07**3, "drawn once a pixel, not once a channel element"


def test_zero_and_untouched_levels_stay():
    ramp = np.resize(np.arange(256, dtype=np.uint8), (24, 32, 32, 3))
    impulse = corrupted(ramp, "impulse_noise", 1)
    kept = (impulse != 0) & (impulse != 255)
    np.testing.assert_array_equal(impulse[kept], ramp[kept])
    for name in ("shot_noise", "speckle_noise"):
        assert (corrupted(ramp, name, 5)[ramp == 0] == 0).all()


# ---------------------------------------------------------------- programs that severities share


SHARING = ["glass_blur", "snow", "elastic_transform", "brownish_noise", "inverse_sparkles"]


@pytest.mark.parametrize("name", some_slow(SHARING, ["glass_blur"]))
def test_severities_that_share_a_program_are_each_their_own(name):
    """Against the program of one severity alone, which has no tables; sums may be in another order."""
    images, keys = jnp.float32(photographs(8)), jax.random.split(jax.random.key(1), 8)
    for group in corruptions.programs(name, (32, 32, 3)):
        for severity in group:
            alone = keyed(name, severity)(keys, images)
            got = 255 * corrupt(keys, images / 255, name, severity)
            same, largest = agreement(np.rint(got), np.asarray(alone))
            assert largest <= (1 if len(group) > 1 and name != "glass_blur" else 0) and same > 0.999
            # As the views of training have it: a severity an image.
            each = jnp.full(8, severity)
            mixed = 255 * corruptions.corrupt_each(keys, images / 255, name, group, each)
            same, largest = agreement(np.rint(mixed), np.rint(got))
            assert largest <= (0 if name == "glass_blur" else 1) and same > 0.999


def test_severities_share_programs_below_64_pixels_alone():
    for name in corruptions.NAMES:
        for side in (16, 32, 63, 64, 224):
            groups = corruptions.programs(name, (side, side, 3))
            assert sorted(sum(groups, ())) == list(SEVERITIES)
            assert corruptions.program(name, (side, side, 3), 4) in groups
    assert len(corruptions.programs("snow", (63, 80, 3))) == 1
    assert len(corruptions.programs("snow", (64, 64, 3))) == 5
