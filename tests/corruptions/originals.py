"""Corruptions as the original program makes them: with OpenCV and scikit-image, for the benchmark.

The form is that of references.py; what is not here has no step in either library, or is
ImageMagick's alone. Importing this file needs neither: a missing one leaves its corruptions out.
"""

import importlib.util

import numpy as np

from tests.corruptions import references as plain
from tests.corruptions import references_layers as layers
from tests.corruptions.references import truncated

if importlib.util.find_spec("cv2"):
    import cv2
if importlib.util.find_spec("skimage"):
    from skimage import color, filters, util


def impulse_noise(image, severity, random):
    amount = plain.IMPULSE_NOISE[severity - 1]
    return truncated(util.random_noise(image / 255.0, mode="s&p", rng=random, amount=amount))


def gaussian_blur(image, severity):
    sigma = plain.GAUSSIAN_BLUR[severity - 1]
    return truncated(filters.gaussian(image / 255.0, sigma=sigma, channel_axis=-1))


def hsv(image, change):
    return truncated(color.hsv2rgb(change(color.rgb2hsv(image / 255.0))))


def brightness(image, severity):
    def change(x):
        x[..., 2] = np.clip(x[..., 2] + plain.BRIGHTNESS[severity - 1], 0, 1)
        return x

    return hsv(image, change)


def saturate(image, severity):
    factor, shift = plain.SATURATE[severity - 1]

    def change(x):
        x[..., 1] = np.clip(x[..., 1] * factor + shift, 0, 1)
        return x

    return hsv(image, change)


def disk(radius, alias):
    offset = np.arange(-8, 9)
    kernel = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.float32)
    return cv2.GaussianBlur(kernel / kernel.sum(), (3, 3), sigmaX=alias)


def defocus_blur(image, severity):
    kernel = disk(*plain.DEFOCUS[severity - 1])
    return truncated(np.dstack([cv2.filter2D(c, -1, kernel) for c in cv2.split(image / 255.0)]))


def motion(image, radius, sigma, degrees):
    """ImageMagick's motion blur, its ray drawn into a kernel for OpenCV."""
    reach, ray = 2 * radius, plain.motion_taps(radius, sigma, degrees)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    np.add.at(kernel, (reach + ray[1], reach + ray[2]), ray[0])
    total = cv2.filter2D(image.astype(float), -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return (np.floor(257 * total + 0.5) // 257).astype(np.uint8).reshape(image.shape)


def motion_blur(image, severity, degrees):
    return motion(image, *plain.MOTION[severity - 1], degrees)


def snow(image, severity, layer, degrees):
    return layers.snow(image, severity, layer, degrees, motion)


def elastic_transform(image, severity, jitter, field):
    before = np.float32([[26, 26], [26, 6], [6, 6]])
    matrix = cv2.getAffineTransform(before, np.float32(before + jitter))
    x = np.float32(image) / 255
    x = cv2.warpAffine(x, matrix, (32, 32), borderMode=cv2.BORDER_REFLECT_101)
    return truncated(plain.displaced(x, field, *plain.ELASTIC[severity - 1][:2]) if severity > 1 else x)


def relief(plane):
    """From the drops (H, W) uint8 to the embossed relief, 0..255."""
    distance = cv2.distanceTransform(255 - cv2.Canny(plane, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    embossed = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, kernel)
    return cv2.blur(embossed, (3, 3)).astype(float)


def spatter(image, severity, layer):
    return layers.spatter(image, severity, layer, relief)


REFERENCES = {}
if importlib.util.find_spec("cv2"):
    REFERENCES |= {
        "defocus_blur": plain.Reference(plain.nothing, defocus_blur, "OpenCV"),
        "motion_blur": plain.Reference(plain.motion_draws, motion_blur, "OpenCV"),
        "snow": plain.Reference(layers.snow_draws, snow, "SciPy, OpenCV"),
        "elastic_transform": plain.Reference(plain.elastic_draws, elastic_transform, "OpenCV, SciPy"),
        "spatter": plain.Reference(layers.spatter_draws, spatter, "SciPy, OpenCV"),
    }
if importlib.util.find_spec("skimage"):
    REFERENCES |= {
        "impulse_noise": plain.Reference(plain.generator, impulse_noise, "scikit-image"),
        "gaussian_blur": plain.Reference(plain.nothing, gaussian_blur, "scikit-image"),
        "brightness": plain.Reference(plain.nothing, brightness, "scikit-image"),
        "saturate": plain.Reference(plain.nothing, saturate, "scikit-image"),
    }
