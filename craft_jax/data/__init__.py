"""Where images come from: one function from the config to a data set."""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

from craft_jax import files
from craft_jax.data import cues, digits, folder, imagenet, npz, shrink, tfds, tfds_encoded
from craft_jax.data.dataset import MOST_CLASSES, Dataset, Images, Source, absent, make
from craft_jax.data.encoded import Encoded
from craft_jax.data.records import DataRecord, class_names, current, record
from craft_jax.errors import DataError

__all__ = ["CUES", "MOST_CLASSES", "NAMES", "OF_SIZE", "OWN", "REGISTRY", "STREAMED", "STREAMING"]
__all__ += ["DataRecord", "Dataset", "Encoded", "Images"]
__all__ += ["absent", "class_names", "current", "load", "record"]

Streams = Callable[[int], bool]  # of the bytes that the images would have: whether they stay in their files


def _never(size: int) -> bool:
    return False


def _of_own_size(name: str, load: Callable[[str, Streams], Source]) -> Callable[[str, int, Streams], Source]:
    def loader(directory: str, size: int, streams: Streams = _never) -> Source:
        return shrink.shrunk(name, load(directory, streams), size)

    return loader


def _tfds(name: str, directory: str, streams: Streams) -> Source:
    of = tfds_encoded if streams(tfds_encoded.BYTES) else tfds
    return of.load(name, directory)


# name -> loader(directory, size, streams) -> Source. The meaning of `directory` is each loader's own; images
# that have a size of their own are shrunk to `size`, 0 for none.
REGISTRY = {
    "digits": _of_own_size("digits", lambda directory, _: digits.load(directory)),
    "cifar10": _of_own_size("cifar10", partial(_tfds, "cifar10")),
    "cifar100": _of_own_size("cifar100", partial(_tfds, "cifar100")),
    "npz": _of_own_size("npz", lambda path, _: npz.load(path)),
    "folder": folder.load,
    "imagenet2012": imagenet.load,
}
NAMES = tuple(REGISTRY)
OWN = ("npz", "folder")  # what is behind these names is the user's: `data.dir` says which data set it is
OF_SIZE = ("folder", "imagenet2012")  # pictures of many sizes, which are resized and cropped to `data.size`
CUES = cues.KINDS
STREAMING = ("auto", "always", "never")
STREAMED = ("cifar10", "cifar100", "folder", "imagenet2012")  # which can be read an image at a time


def load(config: Any) -> Dataset:
    """The data set `config.data.name`; see the loaders for what `config.data.dir` means to each.

    With `config.data.validation` above 0, that many training images (the same ones for every seed) are held
    out, to be evaluated in place of the test set (`Dataset.evaluated`). With `config.data.max_train` above 0
    the others are cut down to that many. With `config.data.size` above 0 all images, of the test set too, are
    shrunk to that side (`shrink.shrink`; of `OF_SIZE`, cropped and resized) before anything else, and a
    spurious `config.data.cue` drawn on them (`cues.mark`), so that every fingerprint is of what the networks
    see. `config.data.streaming` says whether the training images stay in their files (`Encoded`), which
    changes nothing else about them.

    Raises:
      DataError: the name is unknown, the data missing or wrong, of a single class, or a size impossible.
    """
    if config.data.name not in REGISTRY:
        raise DataError(f"data.name is {config.data.name!r}; it must be one of: {', '.join(NAMES)}")
    budget = config.data.memory_gb * 2**30 or files.memory() // 2
    streams = partial(_streams, config, budget)
    cropped = {"test_crop": config.data.test_crop} if config.data.name in OF_SIZE else {}
    source = REGISTRY[config.data.name](config.data.dir, config.data.size, streams, **cropped)
    cue = None
    if config.data.cue != "none":
        source, cue = cues.mark(source, config.data.cue, config.data.cue_correlation)
    return make(config.data.name, source, config.data.validation, config.data.max_train, cue, budget)


def _streams(config, budget, size):
    chosen, can = config.data.streaming, config.data.cue == "none"
    if chosen == "never" or not can or (chosen == "auto" and size <= budget):
        return False
    if not importlib.util.find_spec("grain"):
        raise DataError(
            f"config.data.streaming: {chosen!r}: images of {size} bytes stream (data.memory_gb), which needs "
            "Grain: pip install -r requirements-streaming.txt; in memory: --config.data.streaming=never"
        )
    return True
