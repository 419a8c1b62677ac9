"""What is known of images that stay in their files only once all have been decoded.

It takes one pass over the set, as long as reading it into memory; what was found is kept (`kept`) under the
names, sizes and times of the files. So a run has the fingerprint and the normalisation of the same images in
memory, to the bit, and is the same run: it may stream today and not tomorrow.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from craft_jax.data import kept
from craft_jax.data.encoded import Encoded
from craft_jax.data.statistics import Sums, described

_BLOCK = 2**25  # bytes decoded at a time


class Facts(NamedTuple):
    """Of two parts of a data set, that of training first.

    Attributes:
      fingerprint: `statistics.fingerprint` of images, labels, images, labels.
      mean, std: `statistics.channel_statistics` of the first part's images.
      unreadable: {row, counted through both parts: why}; such an image counts as zeros. See `look`.
    """

    fingerprint: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unreadable: dict[int, str]


def look(
    train: tuple[Encoded, np.ndarray], other: tuple[Encoded, np.ndarray], *, tolerant: bool = False
) -> Facts:
    """The Facts of two parts, each (images, labels (N,) int32).

    Raises:
      DataError: an image cannot be read; with `tolerant` it is among the unreadable ones.
    """
    digest = hashlib.sha256()
    for images, labels in (train, other):
        digest.update(images.key.encode() + labels.astype("<i4").tobytes())
    found: Any = kept.found(digest.hexdigest(), lambda: _pass(train, other, tolerant))
    unreadable = {int(row): why for row, why in found["unreadable"].items()}
    return Facts(found["fingerprint"], tuple(found["mean"]), tuple(found["std"]), unreadable)


def _pass(train, other, tolerant):
    digest, sums, unreadable, before = hashlib.sha256(), Sums(), {}, 0
    total = len(train[0]) + len(other[0])
    with tqdm(total=total, desc="looking at all images", delay=1, leave=False, disable=None) as progress:
        for images, labels in (train, other):
            digest.update(described(images))
            each = max(1, _BLOCK // int(np.prod(images.shape[1:])))
            for start in range(0, len(images), each):
                rows = np.arange(start, min(start + each, len(images)))
                block, bad = images.readable(rows) if tolerant else (images[rows], {})
                digest.update(block.data)
                if images is train[0]:
                    sums.add(block)
                unreadable |= {before + start + i: why for i, why in bad.items()}
                progress.update(len(rows))
            digest.update(described(labels))
            digest.update(np.ascontiguousarray(labels, "<i4").data)
            before += len(images)
    mean, std = sums.mean_and_std()
    return {"fingerprint": digest.hexdigest(), "mean": mean, "std": std, "unreadable": unreadable}
