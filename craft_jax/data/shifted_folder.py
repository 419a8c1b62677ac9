"""ImageNet-C as it is published: DIR/NAME/SEVERITY/CLASS/*.JPEG, 50,000 pictures of 224 pixels a cell.

Unpacked archives are such a folder. Nothing is held in memory: pictures are decoded a batch at a time.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from craft_jax import pictures
from craft_jax.data.dataset import Dataset, foreign
from craft_jax.data.encoded import Encoded
from craft_jax.errors import DataError

LAYOUT = (
    "ImageNet-C is DIR/NAME/SEVERITY/CLASS/*.JPEG, severities 1 to 5, classes called as those of the data."
)
_LISTED = 5  # faults of one kind in a message


class _Cell:
    """An `encoded.Reader` of the pictures of one corruption at one severity."""

    def __init__(self, folder: Path, paths: list[str], shape: tuple[int, int, int]):
        self.shape, self._folder, self._paths = shape, folder, paths
        self.key = hashlib.sha256(os.fsencode(f"{folder}\n{shape}\n" + "\n".join(paths))).hexdigest()

    def read(self, numbers):
        paths = (self._folder / self._paths[number] for number in numbers)
        return np.stack([pictures.read(path, *self.shape[:2]) for path in paths])


def load(config: Any, dataset: Dataset) -> tuple[np.ndarray, tuple[str, ...], Any, dict[str, Any]]:
    """(labels, names, images, record), as in `shifted.Shifted`; images are `Encoded`.

    A cell's pictures are in the order of their classes and names, as a folder's test pictures are.

    Args:
      config: reads eval.dir, eval.corruptions, eval.severities and eval.max_examples.
      dataset: what the model was trained on.
    Raises:
      DataError: a cell is missing, or has other pictures than the first; they are not of the data's classes.
    """
    root, names = Path(config.eval.dir).expanduser(), tuple(config.eval.corruptions)
    if not root.is_dir():
        raise DataError(f"eval.dir={config.eval.dir} is not a directory. {LAYOUT}")
    cells = [(name, severity) for name in names for severity in config.eval.severities]
    folders = {(name, severity): root / name / str(severity) for name, severity in cells}
    if missing := [str(folder.relative_to(root)) for folder in folders.values() if not folder.is_dir()]:
        raise _fault(config, f"there is no {_some(missing)}")
    paths = _paths(folders[cells[0]])  # one list for all: there may be 75 cells of 50,000
    if other := [folder for folder in folders.values() if _paths(folder) != paths]:
        told = _some([str(folder.relative_to(root)) for folder in other])
        raise _fault(config, f"{told} have other pictures than {cells[0][0]}/{cells[0][1]}")
    labels = _labels(config, paths, dataset)
    count = min(config.eval.max_examples or len(labels), len(labels))
    readers = {cell: _Cell(folders[cell], paths, dataset.test_images.shape[1:]) for cell in cells}
    record = {
        "source": config.eval.source,
        "dir": str(root),
        "images": len(labels),
        "examples": count,
        "fingerprint": _fingerprint(folders, paths),
    }

    def images(name, severity):
        return Encoded(readers[name, severity], np.arange(count))

    return labels[:count], names, images, record


def _paths(folder):
    return list(map(str, pictures.find(folder)))


def _labels(config, paths, dataset):
    """(N,) int32, by the directories of the pictures' classes."""
    numbers = {dataset.class_name(label): label for label in range(dataset.num_classes)}
    classes = [path.rpartition("/")[0].partition("/")[0] for path in paths]
    if strange := sorted({name for name in classes if name not in numbers}):
        raise _fault(config, f"{dataset.name} has no class {_some([name or '(none)' for name in strange])}")
    if not paths:
        raise _fault(config, "it has no pictures")
    labels = np.array([numbers[name] for name in classes], np.int32)
    if wrong := foreign(labels, dataset):
        raise _fault(config, f"each cell {wrong}")
    return labels


def _fingerprint(folders, paths):
    """sha256 over the cells, the pictures' names and each cell's first file: cheap, not complete."""
    digest = hashlib.sha256(os.fsencode("\n".join(paths)))
    for (name, severity), folder in sorted(folders.items()):
        digest.update(f"\n{name} {severity}\n".encode() + (folder / paths[0]).read_bytes())
    return digest.hexdigest()


def _some(names):
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _fault(config, why):
    return DataError(f"eval.dir={config.eval.dir} cannot be used as {config.eval.source}: {why}. {LAYOUT}")
