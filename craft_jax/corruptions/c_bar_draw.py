"""CIFAR-10-C-bar's corruptions that draw over the image: squares, lines and light.

Each corruption takes (key, image, severity): one image of whole grey levels 0..255 in float32, to one on
the same scale, neither clipped nor truncated. Source: Mintun, Kirillov and Xie 2021, see `settings.C_BAR`;
where it knows square images alone, a side is the shorter one.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from craft_jax.corruptions import draws
from craft_jax.corruptions.ops import once, truncate
from craft_jax.corruptions.settings import Image, Severity, settings

GREY, WHITE = 128, 255
FEWEST, MOST = 50, 199  # rays of a sparkle


def checkerboard_cutout(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """A share of a turned checkerboard's dark squares becomes grey; a square has 0.1 to 0.25 of the side."""
    height, width, _ = image.shape
    board, squares = jax.random.split(key)
    angle, size = draws.uniform(board, (2,))
    angle, size = 2 * np.pi * angle, (0.1 + 0.15 * size) * min(height, width)
    reach = int(math.hypot(height, width) / (0.1 * min(height, width)))
    chance = draws.uniform(squares, (2 * reach + 1, 2 * reach + 1))
    return _cut_out(image, severity, angle, size, chance)


def _cut_out(image, severity, angle, size, chance):
    """`checkerboard_cutout` of given draws.

    Args:
      image: (H, W, 3) levels.
      severity: as above.
      angle: of the board about pixel (0, 0), radians.
      size: of a square, pixels.
      chance: in (0, 1), (2 n + 1, 2 n + 1), at the row and column of a square, counted from the end where
        negative; below the share its square is grey; n at least the number of squares that the diagonal has.

    A square counts from 0 and its row and column drop their fraction, as the original's do: the squares on
    both sides of 0 have one number, and two that touch at the corner (0, 0) are chosen together.
    """
    share = settings("checkerboard_cutout", image.shape, severity, lambda level: level / 10)
    height, width, _ = image.shape
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    row, column = once(jnp.stack([cos * y + sin * x, cos * x - sin * y]) / size)
    dark = (jnp.floor(row) - jnp.floor(column)) % 2 == 0
    place = [jnp.trunc(axis).astype(jnp.int32) % len(chance) for axis in (row, column)]
    cut = dark & (chance < share).ravel()[place[0] * len(chance) + place[1]]
    return jnp.where(cut[..., None], GREY, image)


def lines(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Grey lines across the image, as many as a share of its side, in directions about a common one.

    At least one: where the original has none, a side of 16 pixels at severity 1, nothing would change.
    """
    height, width, _ = image.shape
    density = settings("lines", image.shape, severity, lambda level: level / 10)
    common, own = jax.random.split(key)
    angle, spread = draws.uniform(common, (2,))
    y, x, turn = draws.uniform(own, (3, max(int(density * min(height, width)), 1)))
    directions = 2 * np.pi * (angle + (0.1 + 0.9 * spread) * (turn - 0.5))
    return _lined(image, height * y, width * x, directions)


def _lined(image, y, x, directions):
    """One line after the other, through the points (y, x), a side's length both ways; each (n,)."""
    length = min(image.shape[:2])
    down, right = length * jnp.cos(directions), length * jnp.sin(directions)
    ends = jnp.trunc(jnp.stack([y - down, x - right, y + down, x + right], 1))
    return jax.lax.scan(lambda levels, line: (_with_line(levels, *line), None), image, ends)[0]


def _with_line(levels, y0, x0, y1, x1):
    """Whole levels with an antialiased line between two pixels, truncated.

    Zingl's algorithm ("A Rasterizing Algorithm for Drawing Curves", 2012) walks along the line; what it
    leaves is this: within the pixels' bounding box, opacity falls from 1 to 0 at a distance of one pixel.
    """
    height, width, _ = levels.shape
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    down, right = y1 - y0, x1 - x0
    across = abs((y - y0) * right - (x - x0) * down)  # whole numbers: exact
    opacity = 1 - across / jnp.maximum(jnp.hypot(down, right), 1)
    inside = (y >= jnp.minimum(y0, y1)) & (y <= jnp.maximum(y0, y1))
    inside &= (x >= jnp.minimum(x0, x1)) & (x <= jnp.maximum(x0, x1))
    opacity = jnp.where(inside, jnp.maximum(opacity, 0), 0)[..., None]
    return jnp.where(opacity > 0, truncate(levels + opacity * (GREY - levels)), levels)


def inverse_sparkles(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """White but for what the rays of one sparkle, near the middle, light up."""
    return _lit(image, severity, *_sparkle(key, image.shape, 0.25, 0.75))


def _lit(image, severity, centre, lengths, rays):
    falloff = settings("inverse_sparkles", image.shape, severity, lambda level: 0.13 * level)
    light = _light(image.shape, centre, min(image.shape[:2]) / 4 * lengths, rays, falloff)
    return WHITE + light * (image - WHITE)


def sparkles(key: Key[Array, ""], image: Image, severity: Severity) -> Image:
    """Five white sparkles of many rays, each at least a pixel long."""
    five = jax.vmap(lambda one: _sparkle(one, image.shape, 0, 1))(jax.random.split(key, 5))
    return _sparkling(image, severity, *five)


def _sparkling(image, severity, centres, lengths, rays):
    """Whitened by one sparkle after the other: what each leaves of the way to white is a factor."""
    radius = settings("sparkles", image.shape, severity, lambda level: level / 100) * min(image.shape[:2])
    lengths = jnp.maximum(radius * lengths, 1)
    light = jax.vmap(lambda *one: _light(image.shape, *one, 1))(centres, lengths, rays)
    return WHITE - (WHITE - image) * jnp.prod(1 - light, 0)


def _sparkle(key, shape, low, high):
    """(centre (2,) in pixels, lengths of rays (MOST,) in radii, how many are used) of one sparkle."""
    places, lengths = jax.random.split(key)
    y, x, number = draws.uniform(places, (3,))
    centre = jnp.stack([(low + (high - low) * y) * shape[0], (low + (high - low) * x) * shape[1]])
    rays = FEWEST + (number * (MOST + 1 - FEWEST)).astype(jnp.int32)
    return centre, 1 + 0.25 * draws.normal(lengths, (MOST,)), rays


def _light(shape, centre, lengths, rays, falloff):
    """How bright a sparkle makes each pixel, (H, W, 1) in [0, 1].

    Args:
      shape: (H, W, ...).
      centre: (2,) pixels, the row first.
      lengths: (MOST,) pixels, of which the first `rays` are used, one a direction, joined linearly.
      rays: int32.
      falloff: light is (length / distance)^(2 falloff) between two rays, on a ray a quarter less.
    """
    height, width = shape[:2]
    y = np.arange(height, dtype=np.float32)[:, None] - centre[0]
    x = np.arange(width, dtype=np.float32) - centre[1]
    turn = once((jnp.arctan2(x, y) + np.pi) / (2 * np.pi) * rays)
    ray = jnp.floor(turn)
    share, first = turn - ray, ray.astype(jnp.int32) % rays
    start = lengths.at[first].get(mode="promise_in_bounds")
    end = lengths.at[(first + 1) % rays].get(mode="promise_in_bounds")
    ratio = (start + share * (end - start)) ** 2 / (y**2 + x**2 + 1e-4)
    light = (1 - (share - 0.5) ** 2) * ratio**falloff
    return jnp.minimum(light, 1).reshape(height, width, 1)


CORRUPTIONS = {
    "checkerboard_cutout": checkerboard_cutout,
    "inverse_sparkles": inverse_sparkles,
    "lines": lines,
    "sparkles": sparkles,
}
