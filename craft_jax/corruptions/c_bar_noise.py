"""CIFAR-10-C-bar's two noises of a given spectrum.

Each corruption takes (key, image, severity): one image of whole grey levels 0..255 in float32, to one on
the same scale, neither clipped nor truncated. Source: Mintun, Kirillov and Xie 2021, see `settings.C_BAR`;
where it knows square images alone, a side is the shorter one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from craft_jax.corruptions import draws
from craft_jax.corruptions.settings import Image, Severity, settings


def blue_noise_sample(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Pixels where noise of an amplitude that grows with frequency is below a threshold become black."""
    return _sampled(image, severity, _phases(key, image.shape))


def _sampled(image, severity, phases):
    threshold = settings("blue_noise_sample", image.shape, severity, lambda level: 0.3 * level - 2.5)
    noise = spectral_noise(phases, image.shape, lambda r: r)
    return image * (noise > threshold)[..., None]


def brownish_noise(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """x plus noise of amplitude 1 / (r^2 + 1) at frequency r, of its own in each channel."""
    return _browned(image, severity, [_phases(one, image.shape) for one in jax.random.split(key, 3)])


def _browned(image, severity, phases):
    scale = settings("brownish_noise", image.shape, severity, lambda level: 6.4 * level)
    noise = [spectral_noise(one, image.shape, lambda r: 1 / (r**2 + 1)) for one in phases]
    return image + scale * jnp.stack(noise, -1)


def _phases(key, shape):
    """The phases of `spectral_noise` that are drawn, uniform in (0, 2 pi)."""
    height, width, _ = shape
    return draws.uniform(key, (height * (width // 2) + width % 2 * (height // 2),), 0, 2 * np.pi)


def spectral_noise(
    phases: Float[Array | np.ndarray, " drawn"], shape: tuple[int, ...], amplitude: Callable[[Any], Any]
) -> Float[Array, "H W"]:
    """Noise of standard deviation 1, the sum of a wave for every frequency.

    The original mirrors its phases about the middle between two frequencies, -f - 1 for f, not about 0, and
    drops the imaginary part of what the inverse transform then has. The wave of frequency 0 stays: the mean
    of brownish noise is not 0.

    Args:
      phases: of the left half, H * (W // 2) row by row; where W is odd then H // 2 of the middle column.
      shape: (H, W, ...).
      amplitude: from a frequency's distance from 0, in waves over the shorter side, to its amplitude.
    """
    height, width = shape[:2]
    left = phases[: height * (width // 2)].reshape(height, width // 2)
    columns = [left, left[::-1, ::-1]]
    if width % 2:
        upper = phases[left.size :]
        columns.insert(1, jnp.concatenate([upper, jnp.zeros(height % 2), upper[::-1]])[:, None])
    angles = jnp.concatenate(columns, 1)
    waves = amplitude(jnp.float32(_distance(height, width))) * jnp.exp(1j * angles)
    noise = jnp.fft.ifft2(jnp.fft.fftshift(waves)).real
    return noise / noise.std()


def _distance(height, width):
    """(H, W) float64: how far each frequency is from 0, which stands in the middle, H / 2 and W / 2."""
    y, x = (np.arange(size) / size - 0.5 for size in (height, width))
    return min(height, width) * np.hypot(y[:, None], x)


CORRUPTIONS = {
    "blue_noise_sample": blue_noise_sample,
    "brownish_noise": brownish_noise,
}
