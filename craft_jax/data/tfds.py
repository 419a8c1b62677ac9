"""CIFAR-10 and CIFAR-100 through TensorFlow Datasets, without TensorFlow.

Reading goes through `tfds.data_source` over array_record files. TFDS 4.9.10 needs TensorFlow to
unpack an archive and to encode an image, so `_builder` does these two steps itself; what it writes
is TFDS's own layout, order and metadata, and its archive is checked against TFDS's recorded
checksum.
"""

import contextlib
import functools
import io
import re
import shutil
import tarfile
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from PIL import Image
from tqdm import tqdm

from craft_jax.data import names
from craft_jax.data.dataset import Source
from craft_jax.errors import DataError

PROBE_SECONDS = 5.0  # how long the download host may take to answer
BLOCK = 1000  # images a read; threads make it slower (the decoding holds the interpreter's lock)


class Cifar(NamedTuple):
    """The facts of one of the two data sets; mean and std are the usual published ones."""

    url: str
    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


SETS = {
    "cifar10": Cifar(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        10,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Cifar(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        100,
        (0.5071, 0.4867, 0.4408),
        (0.2675, 0.2565, 0.2761),
    ),
}


def load(name: str, directory: str) -> Source:
    """The data set `name` from `directory`/`name`/VERSION, downloaded and prepared if it is absent.

    An empty `directory` is TFDS's own: $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
      DataError: the directory is missing, its data cannot be read, or there is neither data nor
        network.
    """
    facts, prepared = SETS[name], located(name, directory)
    with quiet(), explained(prepared, "data.dir"):
        train_images, train_labels = read(open_split(prepared, "train"), facts.num_classes)
        test_images, test_labels = read(open_split(prepared, "test"), facts.num_classes)
    arrays = (train_images, train_labels, test_images, test_labels)
    return Source(*arrays, facts.num_classes, facts.mean, facts.std, names.KNOWN[name])


def located(name: str, directory: str) -> Path:
    """The directory of the prepared data set, as of `load`."""
    root = root_of(directory, "data.dir")
    with quiet():
        return find(root, name) or _download(root, name)


def root_of(directory: str, key: str) -> Path:
    """The directory that the configuration's `key` names; TFDS's own where it is empty.

    Raises:
      DataError: it is not there.
    """
    if not directory:
        return Path(library().core.constants.DATA_DIR)
    root = Path(directory).expanduser()
    if not root.is_dir():
        raise DataError(f"{key}={directory} is not a directory; give one that exists")
    return root


def find(root: Path, name: str) -> Path | None:
    """The newest version's directory, complete or not; TFDS names unfinished ones otherwise."""
    versions = [path for path in (root / name).glob("*") if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


@contextlib.contextmanager
def explained(prepared: Path, key: str) -> Iterator[None]:
    """Makes whatever reading `prepared` raises a DataError that names it and the configuration's `key`."""
    try:
        yield
    except Exception as error:
        raise DataError(
            f"the data in {prepared} cannot be read: {_reason(error)}\n"
            "It must be complete, and prepared by TFDS in the array_record format. Remove that "
            f"directory to prepare it again, or give another with --config.{key}=DIR."
        ) from error


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def open_split(prepared: Path, split: str) -> Any:
    """A sequence of a split's examples, in the order of its files, their images still encoded."""
    tfds = library()
    builder = tfds.builder_from_directory(prepared)
    if builder.info.file_format.value != "array_record":
        raise ValueError(f"its files are {builder.info.file_format.value}, not array_record")
    source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    if len(source) == 0:
        raise ValueError(f"its {split} split is empty")
    return source


def class_names(prepared: Path) -> tuple[str, ...]:
    """What the classes are called, by the labels of a prepared data set."""
    return tuple(library().builder_from_directory(prepared).info.features["label"].names)


def read(source: Any, num_classes: int, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` images (N, 32, 32, 3) uint8 and labels (N,) of `open_split`'s; None for all.

    Raises:
      ValueError: a label is outside 0..K-1. (TFDS's own errors are of many types: see `explained`.)
    """
    count = len(source) if count is None else count
    images = np.empty((count, 32, 32, 3), np.uint8)
    labels = np.empty(count, np.int64)
    with tqdm(total=count, desc="reading images", delay=5, leave=False, disable=None) as progress:
        for start in range(0, count, BLOCK):
            rows = range(start, min(start + BLOCK, count))
            for row, example in zip(rows, source.__getitems__(rows), strict=True):
                images[row], labels[row] = decode(example["image"]), example["label"]
            progress.update(len(rows))
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"a label is outside 0..{num_classes - 1}")
    return images, labels


def decode(encoded: bytes) -> np.ndarray:
    """One image, (32, 32, 3) uint8.

    Always with Pillow: TFDS takes OpenCV where there is one, and two JPEG decoders need not agree.
    """
    with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
        if image.size != (32, 32):
            raise ValueError(f"an image is {image.size[0]} by {image.size[1]} and not 32 by 32")
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _download(root: Path, name: str) -> Path:
    ways_out = functools.partial(_ways_out, name)
    return prepare(root, name, SETS[name].url, functools.partial(_builder, name, root), ways_out)


def prepare(
    root: Path, name: str, url: str, builder: Callable[[], Any], ways_out: Callable[[str, str], str]
) -> Path:
    """Downloads and prepares `name` under `root`; leaves nothing behind where it fails.

    Args:
      root: TFDS's data directory; made if it is not there.
      name: NAME or NAME/CONFIG.
      url: what answers if there is a network.
      builder: makes the TFDS builder.
      ways_out: (what failed, why) -> the message of the DataError.
    Returns:
      The directory of the prepared version.
    """
    fault = _unreachable(url, PROBE_SECONDS)
    if fault:
        raise DataError(ways_out(f"{name} is not in {root}, and cannot be downloaded", fault))
    existed = root.is_dir()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=root) as archives:
            prepared = builder()
            prepared.download_and_prepare(download_dir=archives)
    except Exception as error:
        made = [root / name, *(root / name).parents]
        for folder in made[: made.index(root) + (not existed)]:
            _remove_empty(folder)
        raise DataError(ways_out(f"preparing {name} in {root} failed", _reason(error))) from error
    return Path(prepared.data_dir)


def _remove_empty(folder: Path) -> None:
    """Removes a directory that holds nothing, or only what TFDS notes of a data set's configurations."""
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [".config"]:
            shutil.rmtree(folder / ".config")
        folder.rmdir()


def _ways_out(name: str, what: str, fault: str) -> str:
    return (
        f"{what} ({fault}). Ways out:\n"
        f"  - --config.data.dir=DIR with data that TFDS has prepared as array_record: "
        f"DIR/{name}/VERSION/dataset_info.json;\n"
        f"  - a network: {SETS[name].url} is then downloaded and prepared in that directory;\n"
        "  - the digits that need no download: the :digits preset, as in "
        "--config=configs/craft.py:digits."
    )


def _unreachable(url: str, seconds: float) -> str | None:
    """Why `url` cannot be fetched, or None where its host answers. Honours the proxy variables.

    In a thread, since looking a name up can hang beyond every timeout that urllib takes.
    """
    answer = []

    def ask():
        try:
            request = urllib.request.Request(url, method="HEAD")
            opener = urllib.request.build_opener()  # urlopen's own would keep its first proxies
            with opener.open(request, timeout=seconds):
                answer.append(None)
        except Exception as error:
            answer.append(str(error) or type(error).__name__)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else f"{url} gave no answer within {seconds:g} s"


def _builder(name: str, root: Path) -> Any:
    """TFDS's builder of `name`, writing array_record, unpacking and encoding without TensorFlow."""
    cifar = library().image_classification.cifar
    base = {"cifar10": cifar.Cifar10, "cifar100": cifar.Cifar100}[name]

    def examples(prefix: str, content: bytes, keys: list[str]) -> Iterator[tuple[int, dict]]:
        rows = np.frombuffer(content, np.uint8).reshape(-1, len(keys) + 3 * 32 * 32)
        for index, row in enumerate(rows):
            image = row[len(keys) :].reshape(3, 32, 32).transpose(1, 2, 0)
            labels = dict(zip(keys, map(int, row), strict=False))
            yield index, {"id": f"{prefix}{index:05d}", "image": encode(image), **labels}

    class Builder(base, skip_registration=True):
        def _split_generators(self, dl_manager):
            info = self._cifar_info
            with tarfile.open(dl_manager.download(SETS[name].url)) as tar:

                def read(files):
                    return b"".join(tar.extractfile(info.prefix + file).read() for file in files)

                for key, file in zip(info.label_keys, info.label_files, strict=True):
                    self.info.features[key].names = read([file]).decode().split()
                return {
                    "train": examples("train_", read(info.train_files), info.label_keys),
                    "test": examples("test_", read(info.test_files), info.label_keys),
                }

    Builder.name = name
    return Builder(data_dir=root, file_format="array_record")


def encode(image: np.ndarray) -> io.BytesIO:
    """An image (H, W, 3) uint8 as a PNG file: TFDS takes it as it is, and without TensorFlow."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    png.seek(0)
    return png


def library() -> Any:
    """TFDS, imported where it is first needed: the other data sets do without it."""
    try:
        import tensorflow_datasets
    except ImportError as error:  # TFDS 4.9.10 does not require importlib_resources but imports it
        raise DataError(
            f"TensorFlow Datasets cannot be imported ({error}); "
            "pip install tensorflow-datasets array-record importlib_resources"
        ) from error
    return tensorflow_datasets


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without TFDS's notes on each file it reads; errors still show."""
    before = logging.get_verbosity()
    logging.set_verbosity(min(before, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)
