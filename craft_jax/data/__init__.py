"""Where images come from: one function from the config to arrays in memory."""

from functools import partial
from typing import Any

from craft_jax.data import cues, digits, npz, shrink, tfds
from craft_jax.data.dataset import Dataset, absent, make
from craft_jax.data.records import DataRecord, current, record
from craft_jax.errors import DataError

__all__ = ["CUES", "NAMES", "REGISTRY", "DataRecord", "Dataset", "absent", "current", "load", "record"]

# name -> loader(directory) -> Source. The meaning of `directory` is each loader's own.
REGISTRY = {
    "digits": digits.load,
    "cifar10": partial(tfds.load, "cifar10"),
    "cifar100": partial(tfds.load, "cifar100"),
    "npz": npz.load,
}
NAMES = tuple(REGISTRY)
CUES = cues.KINDS


def load(config: Any) -> Dataset:
    """The data set `config.data.name`; see the loaders for what `config.data.dir` means to each.

    With `config.data.validation` above 0, that many training images (the same ones for every seed) are held
    out, to be evaluated in place of the test set (`Dataset.evaluated`). With `config.data.max_train` above 0
    the others are cut down to that many. With `config.data.size` above 0 all images, of the test set too, are
    shrunk to that side (`shrink.shrink`) before anything else, and a spurious `config.data.cue` drawn on them
    (`cues.mark`), so that every fingerprint is of what the networks see.

    Raises:
      DataError: the name is unknown, the data missing or wrong, of a single class, or a size impossible.
    """
    if config.data.name not in REGISTRY:
        raise DataError(f"data.name is {config.data.name!r}; it must be one of: {', '.join(NAMES)}")
    source = shrink.shrunk(config.data.name, REGISTRY[config.data.name](config.data.dir), config.data.size)
    cue = None
    if config.data.cue != "none":
        source, cue = cues.mark(source, config.data.cue, config.data.cue_correlation)
    return make(config.data.name, source, config.data.validation, config.data.max_train, cue)
