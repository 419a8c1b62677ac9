"""The settings of every corruption, for three image sizes.

Source: Hendrycks & Dietterich 2019, https://github.com/hendrycks/robustness, ImageNet-C/create_c:
make_cifar_c.py (32 x 32), make_tinyimagenet_c.py (64 x 64) and make_imagenet_c.py (224 x 224).
An image has the table of the largest of these sizes that fits into it, by its shorter side: below
64 pixels CIFAR-C's, below 224 Tiny-ImageNet-C's, from 224 on ImageNet-C's. At 32, 64 and 224 that is
the original; between them an image is corrupted less than a picture of its size would be. CIFAR-10-C-bar's
ten, `C_BAR`, have one table for every size.

A row is the five severities; what a setting means is said where it is used. Lengths are pixels, at
every size, but for elastic_transform's (shares of the shorter side) and frost's pictures.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

Image = Float[Array, "H W 3"]  # grey levels 0..255
Severity = int | Int[Array, ""]  # 1..5: a Python int is static, an array may be traced

# "zoom_blur": the factors are arange(1, first, second).
CIFAR = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "speckle_noise": (0.06, 0.10, 0.12, 0.16, 0.20),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic_transform": (
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": (80, 65, 58, 50, 40),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5),
        (0.65, 0.1, 0.8, 0.7, 0.5),
        (0.65, 0.3, 1, 0.69, 0.5),
        (0.65, 0.1, 0.7, 0.69, 0.6),
        (0.65, 0.1, 0.5, 0.68, 0.6),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
}

TINY_IMAGENET = {
    "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
    "shot_noise": (250, 100, 50, 30, 15),
    "impulse_noise": (0.01, 0.02, 0.05, 0.08, 0.14),
    "speckle_noise": (0.15, 0.2, 0.25, 0.3, 0.35),
    "gaussian_blur": (0.5, 0.75, 1, 1.25, 1.5),
    "defocus_blur": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
    "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
    "motion_blur": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
    ),
    "frost": ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
    "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "elastic_transform": (
        (0, 0, 0.08),
        (0.05, 0.3, 0.06),
        (0.1, 0.08, 0.06),
        (0.1, 0.03, 0.03),
        (0.16, 0.03, 0.02),
    ),
    "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
    "jpeg_compression": (65, 58, 50, 40, 25),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.6),
        (0.65, 0.1, 0.8, 0.7, 0.6),
        (0.65, 0.3, 1, 0.69, 0.6),
        (0.65, 0.1, 0.7, 0.68, 0.6),
        (0.65, 0.1, 0.5, 0.67, 0.6),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
}

_OFF = 244 / 224  # the original multiplies by 244 here, though its images have 224 pixels

IMAGENET = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": (60, 25, 12, 5, 3),
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),
    "gaussian_blur": (1, 2, 3, 4, 6),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "elastic_transform": (
        (2 * _OFF, 0.7 * _OFF, 0.1 * _OFF),
        (2 * _OFF, 0.08 * _OFF, 0.2 * _OFF),
        (0.05 * _OFF, 0.01 * _OFF, 0.02 * _OFF),
        (0.07 * _OFF, 0.01 * _OFF, 0.02 * _OFF),
        (0.12 * _OFF, 0.01 * _OFF, 0.02 * _OFF),
    ),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": (25, 18, 15, 10, 7),
    "spatter": (
        (0.65, 0.3, 4, 0.69, 0.6),
        (0.65, 0.3, 3, 0.68, 0.6),
        (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5),
        (0.67, 0.4, 1, 0.65, 1.5),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
}

# CIFAR-10-C-bar's ten: Mintun, Kirillov and Xie, "On Interaction Between Augmentations and Corruptions in
# Natural Corruption Robustness" (2021), https://github.com/facebookresearch/augmentation-corruption,
# imagenet_c_bar/cifar10_c_bar.csv. One number each, of a scale of its own that runs to 10.
C_BAR = {
    "blue_noise_sample": (0.7, 1.4, 2.1, 3.5, 4.2),
    "brownish_noise": (2.5, 4.0, 5.5, 6.5, 7.0),
    "checkerboard_cutout": (1.0, 2.0, 3.0, 4.0, 5.0),
    "inverse_sparkles": (1.0, 1.5, 2.5, 4.5, 5.0),
    "pinch_and_twirl": (5.5, 6.0, 6.5, 8.5, 10.0),
    "ripple": (5.5, 6.0, 6.5, 7.5, 8.0),
    "circular_motion_blur": (2.8, 3.6, 4.4, 5.2, 6.0),
    "lines": (0.5, 1.0, 1.5, 2.0, 2.5),
    "sparkles": (0.7, 3.5, 5.6, 6.3, 7.0),
    "transverse_chromatic_abberation": (1.0, 2.0, 5.0, 9.0, 10.0),
}

# Side of the original's images -> its table; how many pixels of a picture of frost become one.
TABLES = {32: CIFAR | C_BAR, 64: TINY_IMAGENET | C_BAR, 224: IMAGENET | C_BAR}
FROST_REDUCTION = {32: 5, 64: 10 / 3, 224: 1}


def original_side(shape: Sequence[int]) -> int:
    """The side, 32, 64 or 224, of the original whose table serves images of `shape`, (H, W, ...)."""
    return max((side for side in TABLES if side <= min(shape[:2])), default=32)


def rows(name: str, shape: Sequence[int]) -> tuple[Any, ...]:
    """The five settings that the original of the size has for one corruption; arguments as for `settings`."""
    return TABLES[original_side(shape)][name]


def possible(name: str, shape: Sequence[int], severity: Severity) -> tuple[Any, ...]:
    """The settings that a severity may stand for: one of a Python int, all five of a traced one."""
    five = rows(name, shape)
    return five[severity - 1 : severity] if isinstance(severity, int) else five


def settings(
    name: str,
    shape: Sequence[int],
    severity: Severity,
    make: Callable[[Any], Any] = lambda setting: setting,
) -> Any:
    """What the original of the size has for one corruption at a severity: a number or a tuple.

    Args:
      name: one of `corruptions.NAMES`.
      shape: of the image, (H, W, ...).
      severity: a Python int, or traced.
      make: what is made of the setting, of one shape for all severities; its result is returned.
    """
    if isinstance(severity, int):
        return make(rows(name, shape)[severity - 1])
    made = map(make, rows(name, shape))
    looked_up = jax.tree.map(lambda *five: jnp.asarray(np.stack(five))[severity - 1], *made)
    return jax.lax.optimization_barrier(looked_up)  # or XLA looks it up anew for every pixel


def lookup(
    name: str,
    shape: Sequence[int],
    severity: Severity,
    make: Callable[[Any], Shaped[np.ndarray, " entries"]],
    index: Int[Array, "*places"],
) -> Shaped[Array, "*places"]:
    """The entries, at `index`, of the table that `make` makes of a corruption's setting.

    All tables are one, so that no image has a copy of its own; arguments as for `settings`.
    """
    if isinstance(severity, int):
        table = make(rows(name, shape)[severity - 1])
    else:
        tables = [make(row) for row in rows(name, shape)]
        table, index = np.concatenate(tables), index + (severity - 1) * len(tables[0])
    return jnp.asarray(table).at[index].get(mode="promise_in_bounds")
