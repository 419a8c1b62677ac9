"""Shifted test images that others published: the files of CIFAR-10-C, CIFAR-100-C, ImageNet-C, TFDS's sets.

The published layout is a folder of NAME.npy, uint8 (5 N, H, W, 3), rows (s - 1) N .. s N - 1 at severity s
in the order of the test set (N = 10,000), and labels.npy, integers (5 N,), the N labels five times over.
Any other N and image size is read too, as `launch/make_cifar_c.py` writes them.
"""

import functools
import hashlib
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from craft_jax import files
from craft_jax.data import shifted_folder, shifted_tfds
from craft_jax.data.dataset import Dataset, Images, foreign
from craft_jax.data.shifted_match import LEAST_SHARE, share_found
from craft_jax.errors import DataError

SEVERITIES = 5
NOTE = "regenerated.json"  # beside files that launch/make_cifar_c.py wrote: how they were made
LAYOUT = (
    "A directory of published corruptions holds NAME.npy for each corruption, uint8 (5 N, H, W, 3), severity "
    "1 to 5 one after the other, and labels.npy, integers, (5 N,) or (N,)."
)


class Shifted(NamedTuple):
    """Test images under a shift, checked before the first of them is read.

    Attributes:
      labels: (N,) int32 in 0..K-1; N is `eval.max_examples` or, if that is 0 or larger, all there are.
      names: the corruptions, as `eval.corruptions` has them; () for a shift without any.
      images: (name, severity) -> (N, H, W, 3) uint8, whose labels are `labels`; (None, None) for a shift
        without corruptions. For `cifar10_c` a read-only view of the file, not yet read; for `imagenet_c`
        `Encoded`. Raises DataError if TFDS's examples, which are not read before, are unreadable or in
        another order than the others.
      record: what was read; `json.dumps` takes it.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    images: Callable[[str | None, int | None], Images]
    record: dict[str, Any]


def load(config: Any, dataset: Dataset) -> Shifted:
    """The shifted images of `config.eval.source`, which is any but "regenerated".

    Args:
      config: reads eval.source, eval.dir, eval.corruptions, eval.severities, eval.max_examples, data.dir.
      dataset: what the model was trained on: files must be of its test images, which their shape, labels and
        pixels say (`shifted_match.share_found`, in the record; None where pixels cannot tell).
    Raises:
      DataError: what is missing or wrong, all of it in one message.
    """
    if config.eval.source == "cifar10_c":
        return _load_files(config, dataset)
    if config.eval.source == "imagenet_c":
        return Shifted(*shifted_folder.load(config, dataset))
    directory, key = config.eval.dir, "eval.dir"
    if not directory:
        directory, key = config.data.dir, "data.dir"
    if config.eval.source == "cifar10_corrupted":
        wanted = tuple(config.eval.corruptions), tuple(config.eval.severities)
        parts = shifted_tfds.load_corrupted(directory, key, *wanted, config.eval.max_examples, dataset)
    elif config.eval.source == "cifar10_1":
        parts = shifted_tfds.load_natural(directory, key, config.eval.max_examples, dataset)
    else:
        raise DataError(f"eval.source is {config.eval.source!r}, which has no files to read")
    return Shifted(*parts)


def _load_files(config: Any, dataset: Dataset) -> Shifted:
    directory = Path(config.eval.dir).expanduser()
    if not config.eval.dir or not directory.is_dir():
        raise DataError(f"eval.dir={config.eval.dir} is not a directory. {LAYOUT}")
    names = tuple(config.eval.corruptions)
    arrays, faults = _open_images(directory, names, dataset.test_images.shape[1:])
    rows = len(next(iter(arrays.values()))) if arrays else None
    labels, label_faults = _read_labels(directory, rows, dataset)
    note, note_faults = _read_note(directory, names)
    faults += label_faults + note_faults
    found = None if faults else share_found(arrays, labels, dataset)
    if found is not None and found < LEAST_SHARE:
        faults.append(_strangers(found, note, dataset))
    if faults:
        raise DataError(
            f"eval.dir={config.eval.dir} cannot be used as {config.eval.source}:\n"
            + "\n".join(f"  - {fault}" for fault in faults)
            + f"\n{LAYOUT}{_elsewhere(directory)}"
        )
    each = rows // SEVERITIES
    count = min(config.eval.max_examples or each, each)
    record = {
        "source": config.eval.source,
        "dir": str(directory),
        "images": each,
        "examples": count,
        "files": {f"{name}.npy": (directory / f"{name}.npy").stat().st_size for name in names},
        "fingerprint": _fingerprint(labels, arrays),
        "found_among_test_images": found,
        "regenerated": note,
    }
    return Shifted(labels[:count], names, functools.partial(_block, arrays, each, count), record)


def _strangers(found, note, dataset):
    made_from = f"{NOTE} names {note['data']['name']}. " if note else ""
    return (
        f"the images are not {dataset.name}'s test images under corruption: {100 * found:.0f}% of a sample "
        f"were found among them. {made_from}Are these the files of another data set?"
    )


def _block(arrays, each, count, name, severity):
    start = (severity - 1) * each
    return arrays[name][start : start + count]


def _open(path: Path) -> np.ndarray:
    """The array of a .npy file, memory-mapped and read-only; never unpickles.

    Raises:
      ValueError: why it cannot be used.
    """
    if not path.is_file():
        raise ValueError("is missing")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, tokenize.TokenError) as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"is not a complete .npy file of numbers: {said}") from error


def _open_images(directory, names, shape):
    """({name: (5 N, H, W, 3) uint8, memory-mapped}, faults); only sound files, all with as many rows."""
    arrays, faults = {}, []
    for name in names:
        try:
            array = _open(directory / f"{name}.npy")
        except ValueError as error:
            faults.append(f"{name}.npy {error}")
            continue
        wrong = _image_faults(array, shape)
        first = next(iter(arrays), None)
        if not wrong and first and len(array) != len(arrays[first]):
            wrong.append(f"has {len(array)} rows and {first}.npy {len(arrays[first])}: not alike")
        faults += [f"{name}.npy {fault}" for fault in wrong]
        if not wrong:
            arrays[name] = array
    return arrays, faults


def _image_faults(array, shape):
    faults = []
    if array.dtype != np.uint8:
        faults.append(f"has dtype {array.dtype}; it must be uint8")
    if array.ndim != 4 or array.shape[1:] != shape:
        wanted = ", ".join(map(str, shape))
        faults.append(f"has shape {array.shape}; it must be (5 N, {wanted}), as the model's images")
    elif len(array) == 0 or len(array) % SEVERITIES:
        faults.append(f"has {len(array)} rows; it must have 5 N, N at each severity")
    return faults


def _read_labels(directory, rows, dataset):
    """(labels (N,) int32 or None, faults) for image files of `rows` rows, None if there is none."""
    try:
        labels = np.array(_open(directory / "labels.npy"))
    except ValueError as error:
        return None, [f"labels.npy {error}"]
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or labels.size == 0:
        kind = f"has dtype {labels.dtype} and shape {labels.shape}"
        return None, [f"labels.npy {kind}; it must be integers, (5 N,) or (N,)"]
    if rows is None:
        return None, []
    if len(labels) == rows:
        blocks = labels.reshape(SEVERITIES, -1)
        if (blocks != blocks[0]).any():
            return None, ["labels.npy does not repeat the same labels at each severity"]
        labels = blocks[0]
    elif len(labels) * SEVERITIES != rows:
        wanted = f"{rows} or {rows // SEVERITIES}"
        return None, [
            f"labels.npy has {len(labels)} entries; for images of {rows} rows it must have {wanted}"
        ]
    fault = foreign(labels, dataset)
    return labels.astype(np.int32), [f"labels.npy {fault}"] if fault else []


def _read_note(directory, names):
    """(how launch/make_cifar_c.py made the files, None where it did not, faults)."""
    path = directory / NOTE
    if not path.exists():
        return None, []
    try:
        note = files.read_json(path)
        there = [f"{name}.npy" for name in names if (directory / f"{name}.npy").exists()]
        foreign_files = [file for file in there if file not in note["files"]]
        note["data"]["name"]  # for `_strangers`
    except (OSError, ValueError) as error:
        return None, [f"{NOTE} cannot be read: {error}"]
    except (TypeError, KeyError):
        return None, [f"{NOTE} is not what launch/make_cifar_c.py writes"]
    return note, [f"{file} is not among the files that {NOTE} names" for file in foreign_files]


def _fingerprint(labels, arrays):
    """sha256 over the labels and each file's shape and first image at each severity: cheap, not complete."""
    digest = hashlib.sha256(labels.astype("<i4").tobytes())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array[:: len(array) // SEVERITIES]).data)
    return digest.hexdigest()


def _elsewhere(directory):
    """Where an archive was unpacked one folder deeper."""
    inside = sorted(path.parent.name for path in directory.glob("*/labels.npy"))
    return f" Did you mean {', '.join(str(directory / name) for name in inside)}?" if inside else ""
