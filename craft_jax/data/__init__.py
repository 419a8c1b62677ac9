"""Where images come from: one function from the config to arrays in memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

from craft_jax.data import cues, digits, folder, npz, shrink, tfds
from craft_jax.data.dataset import Dataset, Source, absent, make
from craft_jax.data.records import DataRecord, class_names, current, record
from craft_jax.errors import DataError

__all__ = ["CUES", "NAMES", "OWN", "REGISTRY", "DataRecord", "Dataset", "absent", "class_names", "current"]
__all__ += ["load", "record"]


def _of_own_size(name: str, load: Callable[[str], Source]) -> Callable[[str, int], Source]:
    return lambda directory, size: shrink.shrunk(name, load(directory), size)


# name -> loader(directory, size) -> Source. The meaning of `directory` is each loader's own; images that have
# a size of their own are shrunk to `size`, 0 for none.
REGISTRY = {
    "digits": _of_own_size("digits", digits.load),
    "cifar10": _of_own_size("cifar10", partial(tfds.load, "cifar10")),
    "cifar100": _of_own_size("cifar100", partial(tfds.load, "cifar100")),
    "npz": _of_own_size("npz", npz.load),
    "folder": folder.load,
}
NAMES = tuple(REGISTRY)
OWN = ("npz", "folder")  # what is behind these names is the user's: `data.dir` says which data set it is
CUES = cues.KINDS


def load(config: Any) -> Dataset:
    """The data set `config.data.name`; see the loaders for what `config.data.dir` means to each.

    With `config.data.validation` above 0, that many training images (the same ones for every seed) are held
    out, to be evaluated in place of the test set (`Dataset.evaluated`). With `config.data.max_train` above 0
    the others are cut down to that many. With `config.data.size` above 0 all images, of the test set too, are
    shrunk to that side (`shrink.shrink`; of a folder, cropped and resized) before anything else, and a
    spurious `config.data.cue` drawn on them (`cues.mark`), so that every fingerprint is of what the networks
    see.

    Raises:
      DataError: the name is unknown, the data missing or wrong, of a single class, or a size impossible.
    """
    if config.data.name not in REGISTRY:
        raise DataError(f"data.name is {config.data.name!r}; it must be one of: {', '.join(NAMES)}")
    source = REGISTRY[config.data.name](config.data.dir, config.data.size)
    cue = None
    if config.data.cue != "none":
        source, cue = cues.mark(source, config.data.cue, config.data.cue_correlation)
    return make(config.data.name, source, config.data.validation, config.data.max_train, cue)
