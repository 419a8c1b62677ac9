"""The JAX corruptions with the references' draws in place of their own, for tests and for the check."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from craft_jax.corruptions import (
    CORRUPTIONS,
    blur,
    c_bar_draw,
    c_bar_noise,
    c_bar_warp,
    digital,
    spatter,
    weather,
)
from craft_jax.corruptions.ops import gaussian_taps, truncate
from tests.corruptions.references import GLASS
from tests.corruptions.references import REFERENCES as PLAIN
from tests.corruptions.references_c_bar import REFERENCES as C_BAR
from tests.corruptions.references_layers import FOG, SPATTER, frost_crop
from tests.corruptions.references_layers import REFERENCES as LAYERS

REFERENCES = PLAIN | LAYERS | C_BAR
SAMPLED = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")  # distributions alone


def glass(image, severity, draws):
    sigma, _, _ = GLASS[severity - 1]
    moves = [(d[2:, 2:, 1:] == -1, d[2:, 2:, :1] == -1) for d in draws]
    return blur._glass(image, sigma, moves)


def motion(image, severity, degrees):
    return blur.motion(image, blur.ray_at("motion_blur", image.shape, severity), degrees)


def elastic(image, severity, jitter, field):
    return digital._displace(digital._affine(image, jitter), digital._smoothed(field, severity))


def fog(image, severity, levels):
    thickness, decay = FOG[severity - 1]
    chance = jnp.concatenate([level.ravel() for level in levels])
    return weather._fog(image, weather.plasma(chance, 1 << len(levels), decay), thickness)


def snow(image, severity, layer, degrees):
    return weather._snow(image, layer, degrees, severity)


def spattered(image, severity, layer, settings=SPATTER):
    sigma, threshold, last = settings[severity - 1][2:]
    taps = np.float32(gaussian_taps(sigma))
    if severity <= 3:
        return spatter._water(image, layer, taps, threshold, last)
    return spatter._mud(image, layer, taps, threshold, np.float32(gaussian_taps(last)))


def sampled(image, severity, phases):
    return c_bar_noise._sampled(image, severity, phases.ravel())


def browned(image, severity, phases):
    return c_bar_noise._browned(image, severity, phases.reshape(3, -1))


def lined(image, severity, y, x, angles):
    return c_bar_draw._lined(image, y, x, angles)


def lit(image, severity, centre, lengths, rays):
    return c_bar_draw._lit(image, severity, centre, lengths, rays.astype(jnp.int32))


def sparkling(image, severity, centres, lengths, rays):
    return c_bar_draw._sparkling(image, severity, centres, lengths, rays.astype(jnp.int32))


def twirled(image, severity, signs):
    return c_bar_warp._twirled(image, severity, signs > 0)


def fringed(image, severity, order):
    first, second, third = order.astype(jnp.int32)
    return c_bar_warp._fringed(image, severity, 2 * first + (second > third))


# Severities that `corrupt` traces.
SHARED = ("elastic_transform", "snow", "blue_noise_sample", "brownish_noise", "checkerboard_cutout")
SHARED += ("inverse_sparkles", "sparkles")
GIVEN = {
    "glass_blur": glass,
    "motion_blur": motion,
    "elastic_transform": elastic,
    "fog": fog,
    "snow": snow,
    "spatter": spattered,
    "blue_noise_sample": sampled,
    "brownish_noise": browned,
    "checkerboard_cutout": c_bar_draw._cut_out,
    "inverse_sparkles": lit,
    "sparkles": sparkling,
    "lines": lined,
    "pinch_and_twirl": twirled,
    "ripple": c_bar_warp._rippled,
    "transverse_chromatic_abberation": fringed,
}


@functools.cache
def given(name, severity):
    """A jitted (images (B, H, W, 3) levels, *draws with a leading B) -> truncated levels."""
    severity = jnp.int32(severity) if name in SHARED else severity
    return jax.jit(jax.vmap(lambda image, *draws: truncate(GIVEN[name](image, severity, *draws))))


def both(name, images, severity, random):
    """(levels of the JAX version, of the reference), the draws the same; none of `SAMPLED`.

    Args:
      images: (B, 32, 32, 3) uint8.
      random: a NumPy Generator that draws for both; for frost it gives the JAX version's keys, whose
        three uniform numbers place the reference's crop.
    """
    reference = REFERENCES[name]
    draws = [reference.draw(random, severity, image.shape) for image in images]
    levels = jnp.float32(images)
    if name in GIVEN:
        stacked = jax.tree.map(lambda *d: np.float32(d), *draws)
        got = given(name, severity)(levels, *stacked)
    else:
        keys = jax.random.split(jax.random.key(int(random.integers(1 << 31))), len(images))
        got = keyed(name, severity)(keys, levels)
        if name == "frost":
            chance = jax.vmap(lambda key: jax.random.uniform(key, (3,)))(keys)
            draws = [(frost_crop(c, image.shape),) for c, image in zip(chance, images, strict=True)]
    want = [reference.apply(image, severity, *d) for image, d in zip(images, draws, strict=True)]
    return np.asarray(got).astype(int), np.stack(want).astype(int)


@functools.cache
def keyed(name, severity):
    one = functools.partial(CORRUPTIONS[name], severity=severity)
    return jax.jit(jax.vmap(lambda key, image: truncate(one(key, image))))
