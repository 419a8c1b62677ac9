"""TFDS's sets left in their ArrayRecord files, an image decoded when it is asked for."""

import functools
import hashlib
import io
import os
from pathlib import Path

import numpy as np

from craft_jax import pictures
from craft_jax.data import decoded, kept, names, tfds
from craft_jax.data.dataset import Source
from craft_jax.data.encoded import Encoded

BYTES = 60_000 * 32 * 32 * 3  # of either set in memory, its test images included


class Records:
    """An `encoded.Reader` of the images of a split, by their place in it."""

    def __init__(self, prepared: Path, split: str, size: int = 0, share: float = 1.0):
        """CIFAR's images as they are or, with a `size`, any at that side (`pictures.read`)."""
        self._prepared, self._split, self._size, self._share = prepared, split, size, share
        self.shape = (size or 32, size or 32, 3)
        made = f"{size} {share}\n" if size else ""
        digest = hashlib.sha256(os.fsencode(f"{decoded.RULES}\n{prepared}\n{split}\n{made}"))
        for path in sorted(prepared.iterdir()):
            stat = path.stat()
            digest.update(os.fsencode(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"))
        self.key = digest.hexdigest()

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != "source"}

    @functools.cached_property
    def source(self):
        """What TFDS reads from, opened in the process that asks."""
        with tfds.quiet(), tfds.explained(self._prepared, "data.dir"):
            return tfds.open_split(self._prepared, self._split)

    def read(self, numbers):
        """The images of these numbers, (n, H, W, 3) uint8, as `encoded.Reader.read`."""
        made = np.empty((len(numbers), *self.shape), np.uint8)
        with tfds.explained(self._prepared, "data.dir"):
            examples = self.source.__getitems__([int(number) for number in numbers])
            for i, (number, example) in enumerate(zip(numbers, examples, strict=True)):
                try:
                    made[i] = self._decode(example["image"])
                except Exception as error:  # Pillow's decoders raise errors of a dozen kinds
                    raise ValueError(f"image {number} of {self._split}: {error}") from error
        return made

    def _decode(self, image):
        if not self._size:
            return tfds.decode(image)
        return pictures.decode(io.BytesIO(image), self._size, self._size, self._share)


def load(name: str, directory: str) -> Source:
    """`tfds.load` without decoding: its images are `Encoded`.

    Labels are read through once, with all else that the records hold, and kept for the next time.

    Raises:
      DataError: as `tfds.load`; of an image that cannot be decoded, where it is asked for.
    """
    facts, prepared = tfds.SETS[name], tfds.located(name, directory)
    parts = []
    for split in ("train", "test"):
        with tfds.explained(prepared, "data.dir"):
            reader = Records(prepared, split)
            labels = labels_of(reader, facts.num_classes)
        parts += [Encoded(reader, np.arange(len(labels))), labels]
    return Source(*parts, facts.num_classes, facts.mean, facts.std, names.KNOWN[name])


def labels_of(reader: Records, num_classes: int) -> np.ndarray:
    """(N,) int32, read through once, with all else that the records hold, and kept for the next time."""

    def look():
        source, labels = reader.source, []
        for start in range(0, len(source), tfds.BLOCK):
            rows = range(start, min(start + tfds.BLOCK, len(source)))
            labels += [int(example["label"]) for example in source.__getitems__(rows)]
        return labels

    key = hashlib.sha256(f"labels\n{reader.key}".encode()).hexdigest()
    labels = np.array(kept.found(key, look), np.int32)
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"a label is outside 0..{num_classes - 1}")
    return labels
