"""Which images a network got right, a bit an image and cell, beside a result: X.npz of X.json.

A file holds `cells` (C,), names: "clean", "shifted" or "NAME/SEVERITY"; `examples` (C,), how many images each
has; and `bits` (C, ceil(max examples / 8)) uint8, rows of `np.packbits`.
"""

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from craft_jax.errors import DataError


def read(path: str | Path) -> dict[str, Bool[np.ndarray, " N"]]:
    """{cell: whether each image was classified rightly}, in the order of the data set.

    Raises:
      DataError: no such file, or it holds something else.
    """
    try:
        with np.load(path) as stored:
            rows = zip(stored["cells"], stored["examples"], stored["bits"], strict=True)
            return {str(cell): np.unpackbits(bits, count=int(n)).astype(bool) for cell, n, bits in rows}
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: no per-image correctness as an evaluation writes it ({error})") from error
