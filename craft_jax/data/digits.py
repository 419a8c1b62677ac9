"""scikit-learn's embedded digits: 1,797 real images, no download; for the demo and the tests."""

import numpy as np

from craft_jax.data.dataset import Source

TRAIN_EXAMPLES = 1400
SPLIT_SEED = 0


def load(directory: str) -> Source:
    """1,400 training and 397 test images of ten digits, (32, 32, 3), split once by a fixed seed.

    The 8x8 values 0..16 are upsampled bilinearly, scaled to 0..255 and tiled to RGB. `directory` is
    not used: the images are part of scikit-learn.
    """
    del directory
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = upsample(digits.images.astype(np.int64))
    images = np.repeat(images[..., None], 3, axis=-1)
    labels = digits.target
    # RandomState and not Generator: NumPy promises that its stream never changes.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(images))
    train, test = order[:TRAIN_EXAMPLES], order[TRAIN_EXAMPLES:]
    return Source(images[train], labels[train], images[test], labels[test], num_classes=10)


def upsample(images: np.ndarray) -> np.ndarray:
    """(N, 8, 8) integers 0..16 -> (N, 32, 32) uint8 0..255, bilinear with half-pixel centres.

    Bilinear rather than nearest, so that strokes have the smooth edges of a photograph, which blurs
    and noise can act upon. The arithmetic is in integers: interpolation weights are eighths along
    each axis, so sums are 64 * 16 = 1024 at most, and every platform gets the same bytes.
    """
    weights = np.zeros((32, 8), np.int64)
    for i in range(32):
        left, eighths = divmod(2 * i - 3, 8)  # the centre of pixel i lies at (i + 0.5) / 4 - 0.5
        weights[i, max(left, 0)] += 8 - eighths
        weights[i, min(left + 1, 7)] += eighths
    sums = weights @ images @ weights.T
    return ((sums * 255 + 512) // 1024).astype(np.uint8)
