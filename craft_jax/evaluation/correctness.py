"""Which images a network got right, a bit an image: DIR/results.npz, and DIR/eval/NAME.npz.

Accuracies say how many; statistics over images, with all shifted copies of one together, need to know which.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool

from craft_jax import files
from craft_jax.errors import CheckpointError

# Of each set of images, in their order in the data set: "clean", "shifted" or "NAME/SEVERITY" -> which were
# classified right.
Correct = dict[str, Bool[np.ndarray, " _"]]

_KEYS = ("cells", "examples", "bits")


def cell_name(where: str | tuple[str, int]) -> str:
    """What a set of images is called: "clean", "shifted", or a corruption and severity as "fog/3"."""
    return where if isinstance(where, str) else "{}/{}".format(*where)


def write(path: str | Path, correct: Correct) -> None:
    """Write `correct` as an .npz file, whole or not at all.

    It holds "cells", the names; "examples", int64, how many images each has; "bits", uint8, a row a cell:
    `numpy.packbits` of its images, zeros after the last.
    """
    examples = np.array([len(bits) for bits in correct.values()], np.int64)
    bits = np.zeros((len(correct), -(-examples.max(initial=0) // 8)), np.uint8)
    for row, of_cell in zip(bits, correct.values(), strict=True):
        packed = np.packbits(of_cell)
        row[: len(packed)] = packed
    files.write_npz(path, {"cells": np.array(list(correct), np.str_), "examples": examples, "bits": bits})


def read(path: str | Path) -> Correct:
    """What `write` wrote.

    Raises:
      CheckpointError: no such file, or not one of these.
    """
    arrays = files.read_npz(path)
    if fault := _fault(arrays):
        raise CheckpointError(f"{path}: not the correctness of an evaluation: {fault}")
    cells, examples, bits = (arrays[key] for key in _KEYS)
    return {
        str(cell): np.unpackbits(row, count=int(count)).astype(bool)
        for cell, count, row in zip(cells, examples, bits, strict=True)
    }


def _fault(arrays):
    """Why arrays are none that `write` writes, or None."""
    if sorted(arrays) != sorted(_KEYS):
        return f"it holds {', '.join(sorted(arrays)) or 'nothing'}, and not {', '.join(_KEYS)}"
    cells, examples, bits = (arrays[key] for key in _KEYS)
    if cells.dtype.kind != "U" or examples.dtype != np.int64 or bits.dtype != np.uint8:
        return (
            f"its types are {cells.dtype}, {examples.dtype} and {bits.dtype}, and not text, int64 and uint8"
        )
    count = len(cells) if cells.ndim else 0
    if cells.ndim != 1 or examples.shape != (count,) or len(set(cells.tolist())) < count:
        return f"{cells.size} names of cells with {examples.size} counts, or one name twice"
    if examples.min(initial=0) < 0 or bits.shape != (count, -(-examples.max(initial=0) // 8)):
        return f"bits of shape {bits.shape} for {count} cells of {examples.max(initial=0)} images at most"
    after = [np.unpackbits(row)[n:].any() for row, n in zip(bits, examples, strict=True)]
    return "it has bits after the last image" if any(after) else None
