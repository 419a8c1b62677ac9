"""Shifted CIFAR-10 test images through TensorFlow Datasets: cifar10_corrupted and cifar10_1.

`data.tfds` does the reading, and the preparing of cifar10_1. cifar10_corrupted is read only where it has been
prepared: one archive of 2.7 GB serves its 95 configurations, and `eval.source=cifar10_c` reads it as it is.
"""

import functools
from pathlib import Path

import numpy as np

from craft_jax.data import tfds
from craft_jax.data.dataset import foreign
from craft_jax.errors import DataError

ARCHIVE = "https://zenodo.org/record/2535967/files/CIFAR-10-C.tar"
# TFDS's own names. The whole name with the severity is always asked for: TFDS takes a bare
# "cifar10_corrupted" for brightness at severity 1 and says nothing.
TFDS_NAMES = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}

NATURAL = "cifar10_1/v6"  # 2,000 images, as many of each class; TFDS's own default is v4
NATURAL_URL = "https://github.com/modestyachts/CIFAR-10.1"


def load_corrupted(directory, key, names, severities, max_examples, dataset):
    """TFDS's cifar10_corrupted, from DIR/cifar10_corrupted/NAME_SEVERITY/VERSION.

    Args:
      directory: TFDS's data directory, "" for its own default.
      key: the configuration's key that named it.
      names, severities: what will be read; all must be there.
      max_examples: the first so many, 0 for all.
      dataset: CIFAR-10.
    Returns:
      (labels, names, images, record), as in `shifted.Shifted`.
    Raises:
      DataError: a configuration is missing or cannot be opened, or its labels are not CIFAR-10's.
    """
    root = tfds.root_of(directory, key)
    cells = {(n, s): f"cifar10_corrupted/{TFDS_NAMES.get(n, n)}_{s}" for n in names for s in severities}
    folders = {cell: tfds.find(root, name) for cell, name in cells.items()}
    missing = [cells[cell] for cell, folder in folders.items() if folder is None]
    if missing:
        raise DataError(
            f"{key}: {root} does not have {', '.join(missing)}, prepared by TFDS as array_record; nothing is "
            f"downloaded for it. The same images: download and unpack {ARCHIVE}, then "
            "--config.eval.source=cifar10_c --config.eval.dir=DIR/CIFAR-10-C."
        )
    sources = {}
    with tfds.quiet():
        for cell, folder in folders.items():
            with tfds.explained(folder, key):
                sources[cell] = tfds.open_split(folder, "test")
                sources[cell].__getitems__([0, len(sources[cell]) - 1])
        sizes = {len(source) for source in sources.values()}
        if len(sizes) > 1:
            some = ", ".join(map(str, sorted(sizes)))
            raise DataError(f"{key}: the test splits in {root}/cifar10_corrupted differ in size: {some}")
        count = min(max_examples or min(sizes), *sizes)
        first = next(iter(cells))
        with tfds.explained(folders[first], key):
            _, labels = tfds.read(sources[first], dataset.num_classes, count)
    fault = foreign(labels, dataset)
    if fault:
        raise DataError(f"{folders[first]} {fault}")
    record = _record(root, "cifar10_corrupted", count) | {
        "configs": {cells[cell].partition("/")[2]: folder.name for cell, folder in folders.items()}
    }
    labels = labels.astype(np.int32)
    images = functools.partial(_read_cell, sources, folders, key, labels, dataset.num_classes)
    return labels, names, images, record


def _read_cell(sources, folders, key, labels, num_classes, name, severity):
    folder = folders[name, severity]
    with tfds.quiet(), tfds.explained(folder, key):
        images, own = tfds.read(sources[name, severity], num_classes, len(labels))
        if (own != labels).any():
            raise ValueError("its labels are in another order than the other configurations'")
    return images


def load_natural(directory, key, max_examples, dataset):
    """CIFAR-10.1 v6, from DIR/cifar10_1/v6/VERSION, downloaded and prepared if it is absent.

    Args and returns are those of `load_corrupted`; names is ().

    Raises:
      DataError: it cannot be read, or there is neither data nor network.
    """
    root = tfds.root_of(directory, key)
    with tfds.quiet():
        folder = tfds.find(root, NATURAL)
        if folder is None:
            folder = tfds.prepare(root, NATURAL, NATURAL_URL, functools.partial(_builder, root), _ways_out)
        with tfds.explained(folder, key):
            source = tfds.open_split(folder, "test")
            count = min(max_examples or len(source), len(source))
            images, labels = tfds.read(source, dataset.num_classes, count)
    record = _record(root, NATURAL, count) | {"version": folder.name}
    return labels.astype(np.int32), (), lambda name, severity: images, record


def _ways_out(what: str, fault: str) -> str:
    return (
        f"{what} ({fault}). Ways out:\n"
        f"  - --config.eval.dir=DIR with data that TFDS has prepared as array_record: "
        f"DIR/{NATURAL}/VERSION/dataset_info.json;\n"
        f"  - a network: 6 MB of {NATURAL_URL} are then downloaded and prepared in that directory."
    )


def _builder(root: Path):
    """TFDS's builder of CIFAR-10.1, writing array_record, encoding without TensorFlow."""

    class Builder(tfds.library().image_classification.Cifar10_1, skip_registration=True):
        def _generate_examples(self, image_path, label_path):
            # Mapped: a header that claims more than the file has is refused, and no room made for it.
            paths = image_path, label_path
            images, labels = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths)
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield index, {"image": tfds.encode(image), "label": int(label)}

    Builder.name = "cifar10_1"
    return Builder(config="v6", data_dir=root, file_format="array_record")


def _record(root, source, count):
    version = tfds.library().__version__
    return {"source": source, "dir": str(root), "examples": count, "tfds_version": version}
