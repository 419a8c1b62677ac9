"""Your own images as files: DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.png, or Tiny-ImageNet's layout.

ImageNet's own, train/WNID/*.JPEG and val/WNID/*.JPEG, is the former.

A class is a directory of `train`, named by it; its pictures may lie in directories of their own below it. The
test set is `test`, else `val`; where there is neither, a fifth of the pictures of each class, drawn by a
fixed seed. Tiny-ImageNet is known by val/val_annotations.txt and val/images: its test set are the pictures of
val, and words.txt names its classes. Class names are in Unicode's NFC: a Mac's and a PC's "ö" are the same.
"""

import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from craft_jax import pictures
from craft_jax.corruptions import LEAST_SIDE
from craft_jax.data import decoded, survey
from craft_jax.data.dataset import Source
from craft_jax.data.encoded import Encoded
from craft_jax.errors import DataError, printable

TEST_SHARE = 5  # where no test set is given: one of so many pictures of a class
SPLIT_SEED = 20_240_519  # of which they are: never config.seed, so that all runs agree on them
MOST_UNREADABLE = 0.05  # the share of the pictures above which a data set is taken to be broken
_SPLITS = ("train", "test", "val")
_ANNOTATIONS = "val/val_annotations.txt"
_LISTED = 20  # pictures in a message
LAYOUT = (
    "a data set of pictures is DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg (or val/; without either, a "
    f"fifth of train is held apart for it), of {', '.join(pictures.SUFFIXES)}"
)


class Listed(NamedTuple):
    """The pictures of a data set, before any is opened.

    Attributes:
      paths: relative to its directory, those of training first.
      labels: one a picture.
      train: how many are of training.
      classes: K names.
    """

    paths: list[PurePosixPath]
    labels: list[int]
    train: int
    classes: tuple[str, ...]


class _Files:
    """An `encoded.Reader` of pictures, by their place in a list of paths."""

    def __init__(self, root: Path, paths: list[PurePosixPath], size: int, middle: decoded.Middle):
        self.key, self.shape = decoded.key_of(root, paths, size, middle), (size, size, 3)
        self._root, self._paths = root, list(map(str, paths))  # there may be a million, to be pickled
        self._middle = middle

    def read(self, numbers):
        side = self.shape[0]
        made = np.empty((len(numbers), *self.shape), np.uint8)
        for i, number in enumerate(numbers):
            share = self._middle.of(number)
            made[i] = pictures.read(self._root / self._paths[number], side, side, share)
        return made


def load(
    directory: str, size: int, streams: Callable[[int], bool] = lambda _: False, test_crop: float = 1.0
) -> Source:
    """The pictures below `directory` at `size` x `size` pixels, as `pictures.read` makes them.

    Decoded once, they are kept for the next time (`decoded`); or they stay in their files, where `streams`
    says so of the bytes they would have. Those that cannot be read are listed and left out. Test pictures are
    cropped to their middle, to the share `test_crop`.

    Raises:
      DataError: another layout, a symbolic link that leads out, a size below 16, a class without a picture,
        or more unreadable pictures than a share of `MOST_UNREADABLE`.
    """
    root = _root(directory)
    if size < LEAST_SIDE:
        raise DataError(
            f"data.size is {size}; data.name 'folder' needs the side that pictures are resized to, of at "
            f"least {LEAST_SIDE} pixels: --config.data.size=32"
        )
    found = listed(root)
    labels, middle = np.array(found.labels, np.int32), decoded.Middle(found.train, test_crop)
    if streams(len(found.paths) * size * size * 3):
        images = Encoded(_Files(root, found.paths, size, middle), np.arange(len(found.paths)))
        parts = slice(found.train), slice(found.train, None)
        whole = ((images[part], labels[part]) for part in parts)
        unreadable = survey.look(*whole, tolerant=True).unreadable
    else:
        images, unreadable = decoded.images(root, found.paths, size, middle)
    _tell(root, found.paths, unreadable)
    readable = np.array([i for i in range(len(found.paths)) if i not in unreadable], np.int64)
    train, test = readable[readable < found.train], readable[readable >= found.train]
    _check_kept(root, found.classes, labels[train], len(test))
    if not unreadable:  # slices, which leave the images on the disk
        train, test = slice(0, found.train), slice(found.train, None)
    take = images.rows if isinstance(images, Encoded) else images.__getitem__
    return Source(
        take(train), labels[train], take(test), labels[test], len(found.classes), classes=found.classes
    )


def _root(directory):
    if not directory:
        raise DataError(f"data.name 'folder' reads the directory data.dir, which is empty: {LAYOUT}")
    root = Path(directory).expanduser()
    if not (root / "train").is_dir():
        what = "has no directory 'train'" if root.is_dir() else "is not a directory"
        raise DataError(f"data.dir={directory} {what}: {LAYOUT}")
    return root.resolve()


def listed(root: Path) -> Listed:
    """Which pictures a data set has, and of which class each is.

    Raises:
      DataError: see `load`.
    """
    unread: list[PurePosixPath] = []
    found = pictures.find(root, unread)
    train = _by_class(found, "train")
    wnids = tuple(sorted({*train, *_directories(root / "train")}))
    if empty := [name for name in wnids if name not in train]:
        raise DataError(f"{root}/train: no picture of {_some(empty)}: {LAYOUT}")
    if not wnids:
        raise DataError(f"{root}/train: no picture in a directory of its class: {LAYOUT}")
    classes, test = wnids, {}
    if (root / _ANNOTATIONS).is_file() and (root / "val" / "images").is_dir():
        test, classes = _annotated(root, found, wnids), _words(root, wnids)
    elif split := next((part for part in _SPLITS[1:] if (root / part).is_dir()), None):
        test = _by_class(found, split)
        if strange := sorted(test.keys() - train.keys()):
            told = f"{root}/{split}: classes that train has not: {_some(strange)}"
            raise DataError(f"{told} (pictures whose class is not known are to lie elsewhere)")
    else:
        for name, paths in train.items():
            train[name], test[name] = apart(paths)
    if not any(test.values()):
        raise DataError(f"{root}: no picture to test on: {LAYOUT}")
    if homeless := sum(len(path.parts) == 2 and path.parts[0] in _SPLITS for path in found):
        _note(f"{root}: {homeless} pictures that lie in no directory of their class are left out")
    if unread:
        kinds = ", ".join(sorted({path.suffix.lower() for path in unread}))
        _note(f"{root}: {len(unread)} pictures of other kinds ({kinds}) are left out")
    paths = [path for split in (train, test) for name in wnids for path in split.get(name, ())]
    labels = [i for split in (train, test) for i, name in enumerate(wnids) for _ in split.get(name, ())]
    # Bytes that are no UTF-8 are escaped: names are written to records and pages.
    classes = tuple(name.encode("utf-8", "backslashreplace").decode() for name in classes)
    return Listed(paths, labels, sum(map(len, train.values())), classes)


def _directories(folder):
    return [_nfc(e.name) for e in os.scandir(folder) if e.is_dir() and not e.name.startswith(".")]


def _nfc(name):
    return unicodedata.normalize("NFC", name)


def _by_class(found, split):
    """{class: its pictures}, of those in split/CLASS/."""
    by_class: dict[str, list[PurePosixPath]] = {}
    for path in found:
        if path.parts[0] == split and len(path.parts) > 2:
            by_class.setdefault(_nfc(path.parts[1]), []).append(path)
    return by_class


def apart(paths: list[PurePosixPath]) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    """The pictures of one class as (train, test): a fifth, rounded, and one of two to seven, is of the test.

    It depends on how many there are in the class and on nothing else.
    """
    count = max(round(len(paths) / TEST_SHARE), min(1, len(paths) - 1))
    # RandomState and not Generator: NumPy promises that its stream never changes.
    chosen = set(np.random.RandomState(SPLIT_SEED).permutation(len(paths))[:count].tolist())
    parts: tuple[list, list] = ([], [])
    for i, path in enumerate(paths):
        parts[i in chosen].append(path)
    return parts


def _annotated(root, found, wnids):
    """Tiny-ImageNet's test set, {class: pictures}: FILE, its class and a box a line, tabs between."""
    there, known = {path for path in found if path.parts[:2] == ("val", "images")}, set(wnids)
    test: dict[str, list[PurePosixPath]] = {}
    for number, line in enumerate(_lines(root / _ANNOTATIONS), 1):
        name, _, rest = line.partition("\t")
        wnid, path = rest.partition("\t")[0].strip(), PurePosixPath("val", "images", name)
        if wnid not in known or path not in there:
            what = "a picture that is not in val/images" if wnid in known else "a class that train has not"
            raise DataError(f"{root / _ANNOTATIONS}, line {number}: {what}: {line[:100]!r}")
        there.remove(path)  # a picture has one class
        test.setdefault(wnid, []).append(path)
    if there:
        raise DataError(f"{root / _ANNOTATIONS}: no class of {_some(sorted(map(str, there)))}")
    return {wnid: sorted(paths) for wnid, paths in test.items()}


def _words(root, wnids):
    """The first name that words.txt gives a class; with its WNID where another class has it too."""
    if not (root / "words.txt").is_file():
        return wnids
    rows = dict(line.split("\t", 1) for line in _lines(root / "words.txt") if "\t" in line)
    words = [rows.get(wnid, "").split(",")[0].strip() or wnid for wnid in wnids]
    return tuple(
        f"{word} ({wnid})" if words.count(word) > 1 else word for word, wnid in zip(words, wnids, strict=True)
    )


def _lines(path):
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({pictures.reason(error)})") from error


def _tell(root, paths, unreadable):
    """List the pictures that could not be read; too many of them are an error."""
    if not unreadable:
        return
    lines = [f"  {paths[i]}: {why}" for i, why in list(unreadable.items())[:_LISTED]]
    if len(unreadable) > _LISTED:
        lines.append(f"  ... and {len(unreadable) - _LISTED} more")
    told = f"{root}: {len(unreadable)} of {len(paths)} pictures cannot be read"
    if len(unreadable) > MOST_UNREADABLE * len(paths):
        share = f"allowed: {MOST_UNREADABLE:.0%}, which are then left out"
        raise DataError("\n".join([f"{told}; {share}:", *lines]))
    _note("\n".join([f"{told} and are left out:", *lines]))


def _check_kept(root, classes, labels, tests):
    kept = np.bincount(labels, minlength=len(classes))
    if lost := [classes[i] for i in np.flatnonzero(kept == 0)]:
        raise DataError(f"{root}: no training picture that can be read of {_some(lost)}")
    if not tests:
        raise DataError(f"{root}: no picture to test on that can be read")


def _note(text):
    print(f"note: {printable(text)}", file=sys.stderr)


def _some(names):
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
