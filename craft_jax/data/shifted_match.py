"""Whether files of shifted images are of a data set's test images: their pixels say so, in any order."""

import numpy as np

LEAST_SHARE = 0.8  # found of a sample, for files to count as of the same test images
_IMAGES = 16  # looked up of each file
_DISTINCT, _EQUAL = 0.85, 0.98  # see `share_found`
_TELLS_NOTHING = ("elastic_transform",)  # moves pixels so far that digits are not found again


def share_found(arrays, labels, dataset):
    """How many of some shifted images are found among a data set's test images.

    Images of severity 1 are looked up among the test images of their label, by the correlation r of pixels.
    One is found where the best match is distinct (its 1 - r at most 0.85 of the second best's: the ratio test
    of Lowe 2004, section 7.1) or all but equal (r at least 0.98, as where test images repeat). Measured on
    files of digits, and on nine of CIFAR-10's nineteen corruptions: all are found among their own test
    images, at most 69% of digits and 25% of CIFAR-10 among others of the same data set, the hardest case.

    Args:
      arrays: {name: (5 N, H, W, 3) uint8}, not empty.
      labels: (N,) integers.
      dataset: a data.Dataset with images of that shape.
    Returns:
      A share in [0, 1], the highest of all files, since some corruptions leave little of an image; None where
      nothing can be told: of elastic_transform, without contrast, or with one test image of a label.
    """
    found = {name: [] for name in arrays if name not in _TELLS_NOTHING}
    for row in np.unique(np.linspace(0, len(labels) - 1, _IMAGES).astype(int)):
        candidates = _standardised(dataset.test_images[dataset.test_labels == labels[row]])
        for name in found:
            r = np.sort(candidates @ _standardised(arrays[name][row][None])[0])[::-1]
            if len(r) > 1 and r[0] > 0:
                found[name].append(r[0] >= _EQUAL or 1 - r[0] <= _DISTINCT * (1 - r[1]))
    return max((float(np.mean(hits)) for hits in found.values() if hits), default=None)


def _standardised(images):
    """(N, ...) uint8 -> (N, P) float32 of mean 0 and length 1; 0 for an image without contrast."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
