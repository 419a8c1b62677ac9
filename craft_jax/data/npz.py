"""Your own images: one .npz file with four arrays."""

import os
import zipfile
from pathlib import Path

import numpy as np

from craft_jax import files
from craft_jax.corruptions import LEAST_SIDE
from craft_jax.data.dataset import MOST_CLASSES, Source
from craft_jax.errors import DataError

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
FORMAT = (
    "train_images and test_images: uint8, (N, H, W, 3) or greyscale (N, H, W), H and W alike in "
    f"both and at least {LEAST_SIDE}; train_labels and test_labels: integers, (N,), classes 0..K-1"
)


def load(path: str) -> Source:
    """The arrays of the .npz file `path`, which is what `config.data.dir` names for this data set.

    It holds train_images and test_images, uint8, (N, H, W, 3) or greyscale (N, H, W), which is
    tiled to RGB, and train_labels and test_labels, integers (N,). K is 1 + the largest training
    label.

    Raises:
      DataError: every fault of the file, by key, in one message.
    """
    path = os.path.expanduser(path)
    arrays, faults = _read(path)
    for part in ("train", "test"):
        images, labels = arrays.get(f"{part}_images"), arrays.get(f"{part}_labels")
        if images is not None:
            faults += [f"{part}_images {fault}" for fault in _image_faults(images)]
        if labels is not None:
            faults += [f"{part}_labels {fault}" for fault in _label_faults(labels)]
        rows = [len(array) for array in (images, labels) if array is not None and array.ndim]
        if len(set(rows)) > 1:
            faults.append(f"{part}_images has {rows[0]} rows, {part}_labels {rows[1]}: not alike")
    faults += _pair_faults(arrays)
    if faults:
        raise DataError(
            f"data.dir={path} cannot be used:\n"
            + "\n".join(f"  - {fault}" for fault in faults)
            + f"\nAn .npz data set has {FORMAT}."
        )
    images = {key: _rgb(arrays[key]) for key in KEYS if key.endswith("images")}
    return Source(
        images["train_images"],
        arrays["train_labels"],
        images["test_images"],
        arrays["test_labels"],
        num_classes=int(arrays["train_labels"].max()) + 1,
    )


def _read(path: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays that could be read, by key, and a fault for each that could not."""
    if not path:
        raise DataError(
            "data.name 'npz' reads the file that data.dir names, and data.dir is empty: give "
            f"--config.data.dir=FILE.npz. An .npz data set has {FORMAT}."
        )
    if not Path(path).is_file():
        raise DataError(
            f"data.dir={path} is {'a directory' if Path(path).is_dir() else 'not there'}: for "
            f"data.name 'npz' it must be the path of a file. An .npz data set has {FORMAT}."
        )
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"data.dir={path} is not an .npz file (what numpy.savez writes), or is cut short. "
            f"An .npz data set has {FORMAT}."
        )
    arrays, faults = {}, []
    try:
        files.check_npz(path)
        with np.load(path, allow_pickle=False) as file:
            for key in KEYS:
                if key not in file.files:
                    found = ", ".join(sorted(file.files)) or "nothing"
                    faults.append(f"{key} is missing; the file holds: {found}")
                    continue
                try:
                    array = file[key]
                    if not isinstance(array, np.ndarray):  # NumPy gives what is no .npy file as bytes
                        raise ValueError("not an array")
                    arrays[key] = array
                except Exception as error:  # pickled objects, a bad checksum, a cut stream
                    faults.append(f"{key} cannot be read: {error}")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"data.dir={path} cannot be read: {error}") from error
    return arrays, faults


def _image_faults(images: np.ndarray) -> list[str]:
    faults = []
    if images.dtype != np.uint8:
        faults.append(f"has dtype {images.dtype}; it must be uint8, 0 to 255")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        faults.append(f"has shape {images.shape}; it must be (N, H, W, 3) or (N, H, W)")
    elif min(images.shape[1:3]) < LEAST_SIDE:
        faults.append(f"has shape {images.shape}; H and W must be at least {LEAST_SIDE}, for the corruptions")
    if images.ndim and len(images) == 0:
        faults.append("is empty; it must have at least one image")
    return faults


def _label_faults(labels: np.ndarray) -> list[str]:
    faults = []
    if labels.dtype.kind not in "iu":
        faults.append(f"has dtype {labels.dtype}; it must be an integer type")
    elif labels.size and labels.min() < 0:
        faults.append(f"has the negative label {labels.min()}; labels must be 0..K-1")
    elif labels.size and labels.max() >= MOST_CLASSES:
        faults.append(f"has the label {labels.max()}; labels must be 0..K-1, and K at most {MOST_CLASSES}")
    if labels.ndim != 1:
        faults.append(f"has shape {labels.shape}; it must be (N,)")
    return faults


def _pair_faults(arrays: dict[str, np.ndarray]) -> list[str]:
    """Faults between the training and the test set."""
    faults = []
    images = [arrays[key] for key in ("train_images", "test_images") if key in arrays]
    sizes = [array.shape[1:3] for array in images if array.ndim >= 3]
    if len(set(sizes)) > 1:
        faults.append(f"test_images are {sizes[1]} and train_images {sizes[0]} (H, W), not alike")
    labels = [arrays[key] for key in ("train_labels", "test_labels") if key in arrays]
    labels = [array for array in labels if array.dtype.kind in "iu" and array.size]
    if len(labels) == 2:
        train, test = labels
        unknown = sorted(set(test.ravel().tolist()) - set(train.ravel().tolist()))
        if unknown:
            some = ", ".join(map(str, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
            faults.append(f"test_labels has classes that train_labels has not: {some}")
    return faults


def _rgb(images: np.ndarray) -> np.ndarray:
    return np.repeat(images[..., None], 3, axis=-1) if images.ndim == 3 else images
