"""CIFAR-10 and CIFAR-100 through TensorFlow Datasets, without TensorFlow.

Reading goes through `tfds.data_source` over array_record files. TFDS 4.9.10 needs TensorFlow to
unpack an archive and to encode an image, so `_builder` does these two steps itself; what it writes
is TFDS's own layout, order and metadata, and its archive is checked against TFDS's recorded
checksum.
"""

import contextlib
import io
import re
import tarfile
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from PIL import Image
from tqdm import tqdm

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
    facts = SETS[name]
    root = _root(directory)
    with _quiet():
        prepared = _find(root, name) or _download(root, name)
        try:
            train_images, train_labels = _read(prepared, "train", facts)
            test_images, test_labels = _read(prepared, "test", facts)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise DataError(
                f"the data in {prepared} cannot be read: {reason}\n"
                "It must be complete, and prepared by TFDS in the array_record format. Remove that "
                "directory to prepare it again, or give another with --config.data.dir=DIR."
            ) from error
    return Source(
        train_images,
        train_labels,
        test_images,
        test_labels,
        facts.num_classes,
        facts.mean,
        facts.std,
    )


def _root(directory: str) -> Path:
    if not directory:
        return Path(_tfds().core.constants.DATA_DIR)
    root = Path(directory).expanduser()
    if not root.is_dir():
        raise DataError(f"data.dir={directory} is not a directory; give one that exists")
    return root


def _find(root: Path, name: str) -> Path | None:
    """The newest version's directory, complete or not; TFDS names unfinished ones otherwise."""
    versions = [path for path in (root / name).glob("*") if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def _read(prepared: Path, split: str, facts: Cifar) -> tuple[np.ndarray, np.ndarray]:
    """All images (N, 32, 32, 3) uint8 and labels (N,) of a split, in the order of its files."""
    tfds = _tfds()
    builder = tfds.builder_from_directory(prepared)
    if builder.info.file_format.value != "array_record":
        raise ValueError(f"its files are {builder.info.file_format.value}, not array_record")
    source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    count = builder.info.splits[split].num_examples
    if count == 0:
        raise ValueError(f"its {split} split is empty")
    images = np.empty((count, 32, 32, 3), np.uint8)
    labels = np.empty(count, np.int64)
    with tqdm(total=count, desc=f"reading {split} images", delay=5, leave=False, disable=None) as progress:
        for start in range(0, count, BLOCK):
            rows = range(start, min(start + BLOCK, count))
            for row, example in zip(rows, source.__getitems__(rows), strict=True):
                images[row], labels[row] = _decode(example["image"]), example["label"]
            progress.update(len(rows))
    if labels.min() < 0 or labels.max() >= facts.num_classes:
        raise ValueError(f"a label is outside 0..{facts.num_classes - 1}")
    return images, labels


def _decode(encoded: bytes) -> np.ndarray:
    """One image, (32, 32, 3) uint8.

    Always with Pillow: TFDS takes OpenCV where there is one, and two JPEG decoders need not agree.
    """
    with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
        if image.size != (32, 32):
            raise ValueError(f"an image is {image.size[0]} by {image.size[1]} and not 32 by 32")
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _download(root: Path, name: str) -> Path:
    """Downloads and prepares `name` under `root`; leaves nothing behind where it fails."""
    fault = _unreachable(SETS[name].url, PROBE_SECONDS)
    if fault:
        raise DataError(_ways_out(f"{name} is not in {root}, and cannot be downloaded", fault, name))
    existed = root.is_dir()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=root) as archives:
            builder = _builder(name, root)
            builder.download_and_prepare(download_dir=archives)
    except Exception as error:
        with contextlib.suppress(OSError):  # rmdir removes only what is empty
            (root / name).rmdir()
        with contextlib.suppress(OSError):
            if not existed:
                root.rmdir()
        fault = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(_ways_out(f"preparing {name} in {root} failed", fault, name)) from error
    return Path(builder.data_dir)


def _ways_out(what: str, fault: str, name: str) -> str:
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
    cifar = _tfds().image_classification.cifar
    base = {"cifar10": cifar.Cifar10, "cifar100": cifar.Cifar100}[name]

    def examples(prefix: str, content: bytes, keys: list[str]) -> Iterator[tuple[int, dict]]:
        rows = np.frombuffer(content, np.uint8).reshape(-1, len(keys) + 3 * 32 * 32)
        for index, row in enumerate(rows):
            image = row[len(keys) :].reshape(3, 32, 32).transpose(1, 2, 0)
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            png.seek(0)
            labels = dict(zip(keys, map(int, row), strict=False))
            yield index, {"id": f"{prefix}{index:05d}", "image": png, **labels}

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


def _tfds() -> Any:
    """The library, imported where it is first needed: the other data sets do without it."""
    try:
        import tensorflow_datasets
    except ImportError as error:  # TFDS 4.9.10 does not require importlib_resources but imports it
        raise DataError(
            f"TensorFlow Datasets cannot be imported ({error}); "
            "pip install tensorflow-datasets array-record importlib_resources"
        ) from error
    return tensorflow_datasets


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TFDS's notes on each file it reads; errors still show."""
    before = logging.get_verbosity()
    logging.set_verbosity(min(before, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)
