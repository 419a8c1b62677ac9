"""The nineteen corruptions as plain programs: one uint8 image in, one uint8 image out, on a CPU.

Each does in float64 what make_cifar_c.py (Hendrycks & Dietterich 2019) does, with NumPy, SciPy and
Pillow alone and CIFAR's parameters, written down once more. The tests compare the JAX versions with
these, and launch/bench.py takes their time. `REFERENCES` has each by its name:

>>> reference = REFERENCES["snow"]
>>> draws = reference.draw(random, severity, image.shape)  # all that is random, from a NumPy Generator
>>> corrupted = reference.apply(image, severity, *draws)  # (H, W, 3) uint8

Here are noise, blur and digital; fog, snow, frost and spatter are in references_layers.py.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage


class Reference(NamedTuple):
    """A corruption as a program: its draws, what it does with them, and the libraries that do it."""

    draw: Callable
    apply: Callable
    library: str


def truncated(x):
    """Float64 images in [0, 1] as the original stores them: clipped, times 255, cut to uint8."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def nothing(random, severity, shape):
    """The draws of a corruption that is not random."""
    return ()


def generator(random, severity, shape):
    """The draws of noise, which depend on the image: the generator itself."""
    return (random,)


def soft(x, sigma, mode="nearest", cut=4):
    """Gaussian blur of (H, W) or (H, W, C) over rows and columns."""
    return ndimage.gaussian_filter(x, sigma, mode=mode, truncate=cut, axes=(0, 1))


# ---------------------------------------------------------------- noise

GAUSSIAN_NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)
SHOT_NOISE = (500, 250, 100, 75, 50)
IMPULSE_NOISE = (0.01, 0.02, 0.03, 0.05, 0.07)
SPECKLE_NOISE = (0.06, 0.1, 0.12, 0.16, 0.2)


def gaussian_noise(image, severity, random):
    x = image / 255.0
    return truncated(x + random.normal(size=x.shape, scale=GAUSSIAN_NOISE[severity - 1]))


def shot_noise(image, severity, random):
    photons = SHOT_NOISE[severity - 1]
    return truncated(random.poisson(image / 255.0 * photons) / photons)


def impulse_noise(image, severity, random):
    flipped = random.random(image.shape) < IMPULSE_NOISE[severity - 1]
    salted = random.random(image.shape) < 0.5
    return np.where(flipped, np.uint8(255) * salted, image)


def speckle_noise(image, severity, random):
    x = image / 255.0
    return truncated(x + x * random.normal(size=x.shape, scale=SPECKLE_NOISE[severity - 1]))


# ---------------------------------------------------------------- blur

GAUSSIAN_BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)
DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
MOTION = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
ZOOM = (1.06, 1.11, 1.16, 1.21, 1.26)


def gaussian_blur(image, severity):
    return truncated(soft(image / 255.0, GAUSSIAN_BLUR[severity - 1]))


def disk(radius, alias):
    """The float32 kernel, 17x17 or larger: a disk, normalised, through a 3x3 or 5x5 Gaussian."""
    offset, cut = (np.arange(-8, 9), 1) if radius <= 8 else (np.arange(-radius, radius + 1), 2)
    kernel = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.float32)
    taps = np.exp(-0.5 * np.arange(-cut, cut + 1) ** 2 / alias**2)
    taps = (taps / taps.sum()).astype(np.float32)
    kernel = ndimage.correlate1d(kernel / kernel.sum(), taps, axis=1, mode="mirror")
    return ndimage.correlate1d(kernel, taps, axis=0, mode="mirror")


def defocus_blur(image, severity):
    return defocus(image, *DEFOCUS[severity - 1])


def defocus(image, radius, alias):
    kernel = disk(radius, alias).astype(float)[..., None]
    return truncated(ndimage.correlate(image / 255.0, kernel, mode="mirror"))


def glass_draws(random, severity, shape):
    _, delta, times = GLASS[severity - 1]
    return (random.integers(-delta, delta, (times, *shape[:2], 2)),)


def glass_blur(image, severity, draws):
    sigma, delta, _ = GLASS[severity - 1]
    return glass(image, sigma, delta, draws)


def glass(image, sigma, delta, draws):
    """The original's walk over the pixels, one by one; `draws` (times, H, W, 2) are dx and dy."""
    x = np.uint8(soft(image / 255.0, sigma) * 255)
    for draw in draws:
        for h in range(len(x) - delta, delta, -1):
            for w in range(len(x) - delta, delta, -1):
                dx, dy = draw[h, w]
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    return truncated(soft(x / 255.0, sigma))


def motion_draws(random, severity, shape):
    return (random.uniform(-45, 45),)


def motion_blur(image, severity, degrees):
    return motion(image, *MOTION[severity - 1], degrees)


def motion_taps(radius, sigma, degrees):
    """ImageMagick's ray: weights (n,) and, for each, how many rows down and columns right it is."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    down = np.ceil(steps * np.sin(np.radians(degrees)) - 0.5).astype(int)
    right = np.ceil(steps * np.cos(np.radians(degrees)) - 0.5).astype(int)
    return weights / weights.sum(), down, right


def motion(image, radius, sigma, degrees):
    """ImageMagick's motion blur from its description: (H, W, C) uint8 to the same."""
    (height, width, _), reach = image.shape, 2 * radius
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    total = np.zeros(image.shape)
    for weight, dy, dx in zip(*motion_taps(radius, sigma, degrees), strict=True):
        total += weight * padded[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
    return (np.floor(257 * total + 0.5) // 257).astype(np.uint8)


def enlarged(x, factor):
    """The centre of (H, H, C) enlarged by `factor` and cut to H again."""
    size, part = len(x), int(np.ceil(len(x) / factor))
    top = (size - part) // 2
    large = ndimage.zoom(x[top : top + part, top : top + part], (factor, factor, 1), order=1)
    trim = (len(large) - size) // 2
    return large[trim : trim + size, trim : trim + size]


def zoom_blur(image, severity):
    return zoom(image, ZOOM[severity - 1])


def zoom(image, end, step=0.01):
    """In float32, as the original."""
    x, factors = (image / 255.0).astype(np.float32), np.arange(1, end, step)
    total = np.zeros_like(x)
    for factor in factors:
        total += enlarged(x, factor)
    return truncated((x + total) / (len(factors) + 1))


# ---------------------------------------------------------------- digital

BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)
SATURATE = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)
QUALITY = (80, 65, 58, 50, 40)
ELASTIC = ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96))


def with_hsv(image, change):
    """RGB to HSV, change(h, s, v), and back; (H, W, 3) float64 in [0, 1], the textbook sextants."""
    value, spread = image.max(-1), np.ptp(image, axis=-1)
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0)
    r, g, b = np.moveaxis(image, -1, 0)
    safe = np.where(spread > 0, spread, 1)
    hue = np.select(
        [spread == 0, value == b, value == g],
        [0 * r, 4 + (r - g) / safe, 2 + (b - r) / safe],
        (g - b) / safe,
    )
    hue, saturation, value = change(hue / 6 % 1, saturation, value)
    sextant, rest = np.floor(hue * 6), hue * 6 - np.floor(hue * 6)
    p, q = value * (1 - saturation), value * (1 - rest * saturation)
    t = value * (1 - (1 - rest) * saturation)
    order = [(value, t, p), (q, value, p), (p, value, t), (p, q, value), (t, p, value)]
    rgb = np.stack([np.stack(c, -1) for c in [*order, (value, p, q)]])
    return np.take_along_axis(rgb, (sextant[None, ..., None].astype(int) % 6), 0)[0]


def brightness(image, severity):
    shift = BRIGHTNESS[severity - 1]
    return truncated(with_hsv(image / 255.0, lambda h, s, v: (h, s, np.clip(v + shift, 0, 1))))


def saturate(image, severity):
    a, b = SATURATE[severity - 1]
    return truncated(with_hsv(image / 255.0, lambda h, s, v: (h, np.clip(s * a + b, 0, 1), v)))


def contrast(image, severity):
    x = image / 255.0
    mean = x.mean((0, 1))
    return truncated((x - mean) * CONTRAST[severity - 1] + mean)


def pixelate(image, severity):
    return pixelated(image, PIXELATE[severity - 1])


def pixelated(image, share):
    height, width, _ = image.shape
    small = Image.fromarray(image).resize((int(width * share), int(height * share)), Image.BOX)
    return np.asarray(small.resize((width, height), Image.BOX))


def jpeg_compression(image, severity):
    return jpeg(image, QUALITY[severity - 1])


def jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def elastic_draws(random, severity, shape):
    jitter = ELASTIC[severity - 1][2]
    return random.uniform(-jitter, jitter, (3, 2)), random.uniform(-1, 1, (2, *shape[:2]))


def resample(x, rows, columns, mode):
    """Linear interpolation of (H, W, C) at (H, W) places."""
    places = [rows, columns]
    return np.dstack([ndimage.map_coordinates(x[..., c], places, order=1, mode=mode) for c in range(3)])


def affine(x, jitter):
    """The affine map that moves three points by `jitter` (3, 2), in pixels (x, y)."""
    size = len(x)
    center, side = np.array([size // 2, size // 2]), size // 3
    before = np.stack([center + side, [center[0] + side, center[1] - side], center - side])
    ones = np.ones((3, 1))
    back = np.linalg.solve(np.hstack([before + jitter, ones]), before)  # (x, y, 1) @ back = (x, y)
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    place = np.stack([columns, rows, np.ones_like(rows)], -1) @ back
    return resample(x, place[..., 1], place[..., 0], "mirror")


def displaced(x, field, strength, sigma):
    """`field` (2, H, W) is the displacement along x and y before it is smoothed and scaled."""
    columns, rows = np.meshgrid(np.arange(len(x)), np.arange(len(x)))
    right, down = (strength * soft(f, sigma, "reflect", 3) for f in field)
    return resample(x, rows + down, columns + right, "reflect")


def elastic_transform(image, severity, jitter, field):
    strength, sigma, _ = ELASTIC[severity - 1]
    x = affine(image / 255.0, jitter)
    return truncated(displaced(x, field, strength, sigma) if strength else x)


REFERENCES = {
    "gaussian_noise": Reference(generator, gaussian_noise, "NumPy"),
    "shot_noise": Reference(generator, shot_noise, "NumPy"),
    "impulse_noise": Reference(generator, impulse_noise, "NumPy"),
    "speckle_noise": Reference(generator, speckle_noise, "NumPy"),
    "gaussian_blur": Reference(nothing, gaussian_blur, "SciPy"),
    "defocus_blur": Reference(nothing, defocus_blur, "SciPy"),
    "glass_blur": Reference(glass_draws, glass_blur, "SciPy, Python loop"),
    "motion_blur": Reference(motion_draws, motion_blur, "NumPy"),
    "zoom_blur": Reference(nothing, zoom_blur, "SciPy"),
    "brightness": Reference(nothing, brightness, "NumPy"),
    "saturate": Reference(nothing, saturate, "NumPy"),
    "contrast": Reference(nothing, contrast, "NumPy"),
    "pixelate": Reference(nothing, pixelate, "Pillow"),
    "jpeg_compression": Reference(nothing, jpeg_compression, "Pillow"),
    "elastic_transform": Reference(elastic_draws, elastic_transform, "SciPy"),
}
