"""Where images come from: one function from the config to arrays in memory."""

from functools import partial
from typing import Any

from craft_jax.data import digits, npz, tfds
from craft_jax.data.dataset import DataRecord, Dataset, absent, make, record
from craft_jax.errors import DataError

__all__ = ["NAMES", "REGISTRY", "DataRecord", "Dataset", "absent", "load", "record"]

# name -> loader(directory) -> Source. The meaning of `directory` is each loader's own.
REGISTRY = {
    "digits": digits.load,
    "cifar10": partial(tfds.load, "cifar10"),
    "cifar100": partial(tfds.load, "cifar100"),
    "npz": npz.load,
}
NAMES = tuple(REGISTRY)


def load(config: Any) -> Dataset:
    """The data set `config.data.name`; see the loaders for what `config.data.dir` means to each.

    With `config.data.validation` above 0, that many training images (the same ones for every seed)
    are held out and replace the test set. With `config.data.max_train` above 0 the others are cut down
    to that many.

    Raises:
      DataError: the name is unknown, the data missing or wrong, of a single class, or a size impossible.
    """
    if config.data.name not in REGISTRY:
        raise DataError(f"data.name is {config.data.name!r}; it must be one of: {', '.join(NAMES)}")
    source = REGISTRY[config.data.name](config.data.dir)
    return make(config.data.name, source, config.data.validation, config.data.max_train)
