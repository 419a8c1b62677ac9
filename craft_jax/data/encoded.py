"""Images that stay in their files: an array's place is taken by one that decodes what is asked of it."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from jaxtyping import Int, UInt8

from craft_jax import pictures
from craft_jax.errors import DataError

_TOGETHER = 4  # images that a thread decodes in turn


class Reader(Protocol):
    """Decodes images by their numbers. It is pickled, and then reads in another process.

    Attributes:
      key: SHA-256 in hex; it changes with the files, and with how they are decoded.
      shape: (H, W, 3) of each image.
    """

    key: str
    shape: tuple[int, int, int]

    def read(self, numbers: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n H W 3"]:
        """The images of these numbers. Raises DataError, which names the file of the first bad one."""
        ...


class Encoded:
    """(N, H, W, 3) uint8 images in files, read as an array of them is.

    `images[index]` with an array of row numbers, or of N bools, decodes them, by threads; `images[a:b]` and
    `rows` decode nothing: they are other `Encoded`. np.asarray(images) decodes all.

    Attributes:
      shape, dtype, ndim, nbytes: of the array that they would be.
      key: SHA-256 in hex of what they are: these images of these files.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, reader: Reader, numbers: Int[np.ndarray, " N"]):
        """The images of a reader with these numbers, in this order."""
        self._reader, self._numbers = reader, np.asarray(numbers, np.int64)
        self.shape = (len(self._numbers), *reader.shape)
        self.nbytes = int(np.prod(self.shape, dtype=np.int64))

    @property
    def key(self) -> str:
        """See the class."""
        return hashlib.sha256(self._reader.key.encode() + self._numbers.astype("<i8").tobytes()).hexdigest()

    def __len__(self):
        return len(self._numbers)

    def rows(self, index: slice | np.ndarray) -> "Encoded":
        """The images at these rows, not decoded."""
        return Encoded(self._reader, self._numbers[index])

    def through(self, change: Callable[[Reader], Reader]) -> "Encoded":
        """The images as change(their reader) decodes them."""
        return Encoded(change(self._reader), self._numbers)

    def read(self, rows: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n H W 3"]:
        """The images at these rows, decoded in this thread.

        Raises:
          DataError: one cannot be read; it names its file.
        """
        return self._reader.read(self._numbers[rows])

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.rows(index)
        numbers = self._numbers[index]
        flat = numbers.reshape(-1)
        made = np.empty((len(flat), *self.shape[1:]), np.uint8)

        def some(start):
            made[start : start + _TOGETHER] = self._reader.read(flat[start : start + _TOGETHER])

        with ThreadPoolExecutor() as threads:  # Pillow lets go of Python's lock as it decodes and resizes
            for _ in threads.map(some, range(0, len(flat), _TOGETHER)):
                pass
        return made.reshape(*numbers.shape, *self.shape[1:])

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[np.arange(len(self))], dtype)

    def readable(self, rows: Int[np.ndarray, " n"]) -> tuple[UInt8[np.ndarray, "n H W 3"], dict[int, str]]:
        """The images at these rows, zeros where one cannot be read, and {its place in `rows`: why}."""
        try:
            return self[rows], {}
        except DataError:
            made, unreadable = np.zeros((len(rows), *self.shape[1:]), np.uint8), {}
        for i in range(len(rows)):
            try:
                made[i] = self.read(rows[i : i + 1])[0]
            except DataError as error:
                unreadable[i] = pictures.reason(error.__cause__ or error)
        return made, unreadable
