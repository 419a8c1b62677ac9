"""Data sets loaded as a run loads them, here and in a process of its own; an .npz file of 36 images."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from craft_jax import data
from craft_jax.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load(name, directory="", validation=0, max_train=0, size=0, streaming="never", **more):
    section = {"name": name, "dir": str(directory), "validation": validation, "max_train": max_train}
    section |= {"size": size, "cue": "none", "streaming": streaming, "memory_gb": 0.0}
    return data.load(ConfigDict({"data": section, **more}))


def fails(*args, **kwargs):
    """The message of the DataError that loading gives."""
    with pytest.raises(DataError) as error:
        load(*args, **kwargs)
    return str(error.value)


def arrays(**changes):
    rng = np.random.default_rng(0)
    good = {
        "train_images": rng.integers(0, 256, (30, 18, 16, 3)).astype(np.uint8),
        "train_labels": np.arange(30) % 3,
        "test_images": rng.integers(0, 256, (6, 18, 16, 3)).astype(np.uint8),
        "test_labels": np.arange(6) % 3,
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def save(directory, **changes):
    path = directory / "images.npz"
    np.savez(path, **arrays(**changes))
    return path


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **environment},
    )


LOAD = """
import sys, time
from absl import logging
from ml_collections import ConfigDict
from craft_jax import data, main
logging.use_absl_handler()
logging.set_verbosity(logging.INFO)  # as absl.app.run leaves it
start = time.time()
try:
    section = dict(name="cifar10", dir={directory!r}, size=0, validation=0, max_train=0, cue="none")
    section |= dict(streaming="auto", memory_gb=0.0)
    data.load(ConfigDict({{"data": section}}))
except data.tfds.DataError as error:
    print(error)
print("seconds", time.time() - start)
print("tensorflow", "tensorflow" in sys.modules)
"""
