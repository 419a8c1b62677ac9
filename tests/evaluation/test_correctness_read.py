"""Per-image correctness, read."""

import numpy as np
import pytest

from craft_jax.errors import DataError
from craft_jax.evaluation import correctness


def test_bits_are_the_images_in_order(tmp_path):
    bits = np.array([[0b10110000, 0b01000000], [0b11100000, 0]], np.uint8)
    np.savez(tmp_path / "r.npz", cells=np.array(["clean", "fog/5"]), examples=[10, 3], bits=bits)
    found = correctness.read(tmp_path / "r.npz")
    assert {cell: right.tolist() for cell, right in found.items()} == {
        "clean": [True, False, True, True, False, False, False, False, False, True],
        "fog/5": [True, True, True],
    }


def test_another_file_is_refused(tmp_path):
    np.savez(tmp_path / "r.npz", other=[1])
    (tmp_path / "text.npz").write_text("text")
    for name in ("r", "text", "absent"):
        with pytest.raises(DataError, match=name):
            correctness.read(tmp_path / f"{name}.npz")
