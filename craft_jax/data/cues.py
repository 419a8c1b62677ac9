"""A spurious cue: a mark on every image that names a class, its own with a set probability, else another.

A network may learn the cue in place of the class. How far it did shows on test images that carry it as in
training, not at all, or that of another class (`evaluation.spurious`). A cue is

corner    a square of the class's colour in the upper left corner, a quarter of the image's side
color     a tint: three parts of the image, one of the class's colour

with K hues at equal distances for K classes. It is drawn on the image as loaded, so that crops, flips, views
and corruptions act on it too.
"""

import colorsys

import numpy as np

from craft_jax.data.dataset import Cue, Marks, Source

KINDS = ("none", "corner", "color")
# Whose cue an image carries depends on its index and on this alone, never on config.seed: the runs of all
# seeds, and the teacher they share, are of one data set.
_SEEDS = {"train": 20_261_130, "test": 20_261_131}
_BLOCK = 4096  # images at a time: a tint takes twice their bytes


def mark(source: Source, kind: str, correlation: float) -> tuple[Source, Cue]:
    """What a loader returned with the cue drawn on all images, of the test set too; and the Cue."""
    marks, marked = {}, {}
    for part, seed in _SEEDS.items():
        images, labels = getattr(source, f"{part}_images"), getattr(source, f"{part}_labels")
        given, other = carried(labels, source.num_classes, correlation, seed)
        marks[part] = Marks(images, given, other)
        marked[f"{part}_images"] = draw(kind, images, given, source.num_classes)
    return source._replace(**marked), Cue(kind, correlation, source.num_classes, marks)


def carried(
    labels: np.ndarray, num_classes: int, correlation: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(given, other) of `Marks`, from two numbers for each image: the first N do not depend on more."""
    # RandomState and not Generator: NumPy promises that its stream never changes.
    drawn = np.random.RandomState(seed).random_sample((len(labels), 2))
    step = 1 + np.floor(drawn[:, 1] * (num_classes - 1)).astype(np.int32)
    other = (labels.astype(np.int32) + step) % num_classes
    return np.where(drawn[:, 0] < correlation, labels, other).astype(np.int32), other


def draw(kind: str, images: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """(N, H, W, 3) uint8 with the cues of `classes` (N,), of K."""
    colours, marked = palette(num_classes), np.array(images)
    side = min(images.shape[1:3]) // 4
    for start in range(0, len(images), _BLOCK):
        block = slice(start, start + _BLOCK)
        own = colours[classes[block]][:, None, None]
        if kind == "corner":
            marked[block, :side, :side] = own
        else:
            marked[block] = (3 * images[block].astype(np.uint16) + own + 2) // 4
    return marked


def palette(num_classes: int) -> np.ndarray:
    """(K, 3) uint8: saturated colours, hues at equal distances from red on."""
    hues = [colorsys.hsv_to_rgb(c / num_classes, 1.0, 1.0) for c in range(num_classes)]
    return np.rint(255 * np.array(hues)).astype(np.uint8)
