"""Fog, snow, frost and spatter as plain programs; see references.py, whose form they have.

Spatter takes five steps of OpenCV: without it they are loops over pixels here, right but slow. With
it, originals.py has them as the original does.
"""

import functools

import numpy as np
from PIL import Image
from scipy import ndimage

from craft_jax.corruptions import frost as pictures_of_frost
from tests.corruptions.references import Reference, enlarged, motion, soft, truncated

# ---------------------------------------------------------------- fog

FOG = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))


def fog_draws(random, severity, shape):
    """For each level of n x n cells, n = 1, 2, 4, ...: 3 arrays (n, n) in [-1, 1]."""
    size = 1 << (max(shape[:2]) - 1).bit_length()
    return ([random.uniform(-1, 1, (3, 1 << i, 1 << i)) for i in range(size.bit_length() - 1)],)


def plasma(chance, decay):
    """Diamond-square on a torus, in place on the grid of every `step`th point; scaled to 0..1."""
    size, wibble = 2 << (len(chance) - 1), 100.0
    grid = np.zeros((size, size))
    for level, (middle, top, side) in enumerate(chance):
        step = size >> level
        half = step // 2
        corners = grid[::step, ::step]
        columns = corners + np.roll(corners, -1, 0)
        centers = (columns + np.roll(columns, -1, 1)) / 4 + wibble**2 * middle
        grid[half::step, half::step] = centers
        across, down = corners + np.roll(corners, -1, 1), corners + np.roll(corners, -1, 0)
        grid[::step, half::step] = (across + centers + np.roll(centers, 1, 0)) / 4 + wibble**2 * top
        grid[half::step, ::step] = (down + centers + np.roll(centers, 1, 1)) / 4 + wibble**2 * side
        wibble /= decay
    grid -= grid.min()
    return grid / grid.max()


def fog(image, severity, chance):
    return foggy(image, *FOG[severity - 1], chance)


def foggy(image, thickness, decay, chance):
    (height, width, _), x = image.shape, image / 255.0
    foggy = x + thickness * plasma(chance, decay)[:height, :width, None]
    return truncated(foggy * x.max() / (x.max() + thickness))


# ---------------------------------------------------------------- snow

SNOW = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)


def snow_draws(random, severity, shape):
    loc, scale = SNOW[severity - 1][:2]
    return random.normal(loc, scale, shape[:2]), random.uniform(-135, -45)


def snow(image, severity, layer, degrees, motion=motion):
    return snowed(image, layer, degrees, *SNOW[severity - 1][2:], motion)


def snowed(image, layer, degrees, zoom, threshold, radius, sigma, blend, motion=motion):
    layer = enlarged(layer[..., None], zoom)
    layer[layer < threshold] = 0
    flakes = motion(truncated(layer), radius, sigma, degrees) / 255.0
    x = image / 255.0
    grey = (x @ np.array([0.299, 0.587, 0.114]))[..., None]
    x = blend * x + (1 - blend) * np.maximum(x, 1.5 * grey + 0.5)
    return truncated(x + flakes + np.rot90(flakes, k=2))


# ---------------------------------------------------------------- frost

FROST = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))


@functools.cache
def pictures():
    """Every fifth pixel of the five photographs; without them the textures, which have no original."""
    folder = pictures_of_frost._folder()
    if folder is None:
        return pictures_of_frost._textures(5)
    whole = [np.asarray(Image.open(folder / name).convert("RGB")) for name in pictures_of_frost.FILES]
    return [picture[2::5, 2::5] for picture in whole]


def frost_crop(chance, shape):
    """The crop of `shape` at three numbers in [0, 1): which picture, how far down, how far right."""
    which, down, right = np.float32(chance)
    picture = pictures()[int(which * 5)]
    top = int(down * np.float32(picture.shape[0] - shape[0]))
    left = int(right * np.float32(picture.shape[1] - shape[1]))
    return picture[top : top + shape[0], left : left + shape[1]]


def frost_draws(random, severity, shape):
    """A crop of one of the pictures; they stay in memory, where the original reads them each time."""
    return (frost_crop(random.random(3), shape),)


def frost(image, severity, layer):
    kept, added = FROST[severity - 1]
    return np.uint8(np.clip(kept * image + added * layer, 0, 255))


# ---------------------------------------------------------------- spatter

SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5),
    (0.65, 0.1, 0.8, 0.7, 0.5),
    (0.65, 0.3, 1, 0.69, 0.5),
    (0.65, 0.1, 0.7, 0.69, 0.6),
    (0.65, 0.1, 0.5, 0.68, 0.6),
)


def canny(plane, low, high):
    """OpenCV's Canny as its documentation has it, with a stack of edges to follow."""
    a = np.pad(plane.astype(int), 1, mode="edge")
    columns, rows = a[:, 2:] - a[:, :-2], a[2:] - a[:-2]
    dx = columns[:-2] + 2 * columns[1:-1] + columns[2:]
    dy = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    size = np.pad(np.abs(dx) + np.abs(dy), 1)
    state = np.zeros(size.shape, int)  # 1 is a candidate, 2 an edge
    for y, x in np.argwhere(size[1:-1, 1:-1] > low):
        u, v = dx[y, x], dy[y, x]
        m, at = size[y + 1, x + 1], size[y : y + 3, x : x + 3]
        if abs(v) << 15 < abs(u) * 13573:
            peak = m > at[1, 0] and m >= at[1, 2]
        elif abs(v) << 15 > abs(u) * (13573 + (2 << 15)):
            peak = m > at[0, 1] and m >= at[2, 1]
        else:
            s = -1 if (u < 0) != (v < 0) else 1
            peak = m > at[0, 1 - s] and m > at[2, 1 + s]
        state[y + 1, x + 1] = peak * (1 + (m > high))
    stack = list(np.argwhere(state == 2))
    while stack:
        y, x = stack.pop()
        for i, j in np.argwhere(state[y - 1 : y + 2, x - 1 : x + 2] == 1):
            state[y - 1 + i, x - 1 + j] = 2
            stack.append((y - 1 + i, x - 1 + j))
    return state[1:-1, 1:-1] == 2


def distance(edges):
    """The least chamfer length to any edge, from the closed form; pixels, in steps of 2^-16."""
    if not edges.any():
        return np.full(edges.shape, 1000.0)
    gap = np.abs(np.argwhere(np.ones(edges.shape))[:, None] - np.argwhere(edges)[None])
    long, short = gap.max(-1), gap.min(-1)
    side, diagonal, knight = (np.round(w * 65536) for w in (1, 1.4, 2.1969))
    near_axis = (long - 2 * short) * side + short * knight
    near_diagonal = (2 * short - long) * diagonal + (long - short) * knight
    return np.where(2 * short <= long, near_axis, near_diagonal).min(1).reshape(edges.shape) / 65536


def equalised(plane):
    histogram = np.bincount(plane.ravel(), minlength=256)
    first = np.flatnonzero(histogram)[0]
    if histogram[first] == plane.size:
        return plane
    scale, table = np.float32(255) / np.float32(plane.size - histogram[first]), np.zeros(256, int)
    table[first + 1 :] = np.rint(np.cumsum(histogram[first + 1 :]).astype(np.float32) * scale)
    return table[plane]


def relief(plane):
    """From the drops (H, W) uint8 to the embossed relief, 0..255."""
    near = np.minimum(distance(canny(plane, 50, 150)), 20)
    sums = ndimage.correlate(near, np.ones((3, 3)), mode="mirror")
    equal = equalised(np.floor(sums / 9 + 1e-9).astype(int))
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    embossed = np.clip(ndimage.correlate(equal, kernel, mode="mirror"), 0, 255)
    return np.rint(ndimage.correlate(embossed, np.ones((3, 3), int), mode="mirror") / 9)


def spatter_draws(random, severity, shape):
    loc, scale = SPATTER[severity - 1][:2]
    return (np.float32(random.normal(loc, scale, shape[:2])).astype(float),)


def spatter(image, severity, layer, relief=relief, settings=SPATTER):
    _, _, sigma, threshold, intensity = settings[severity - 1]
    x, drops = image / 255.0, soft(layer, sigma)
    drops[drops < threshold] = 0
    if severity <= 3:
        plane = np.floor(drops * 255).astype(int).astype(np.uint8)
        mask = plane * relief(plane)
        mask = intensity * mask / max(mask.max(), 1)
        return truncated(x + mask[..., None] * np.array([175, 238, 238]) / 255)
    mask = soft((drops > threshold).astype(float), intensity)
    mask = np.where(mask < 0.8, 0, mask)[..., None]
    return truncated(x * (1 - mask) + mask * np.array([63, 42, 20]) / 255)


REFERENCES = {
    "fog": Reference(fog_draws, fog, "NumPy"),
    "snow": Reference(snow_draws, snow, "SciPy"),
    "frost": Reference(frost_draws, frost, "NumPy"),
    "spatter": Reference(spatter_draws, spatter, "SciPy, Python loop"),
}
