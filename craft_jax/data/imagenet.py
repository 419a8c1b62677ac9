"""ImageNet (ILSVRC 2012) as TFDS prepares it: imagenet2012, its validation images the test set.

Nothing is downloaded: the archives are behind a registration. `folder` reads ImageNet's own directories.
"""

from collections.abc import Callable

import numpy as np

from craft_jax import files
from craft_jax.corruptions import LEAST_SIDE
from craft_jax.data import tfds, tfds_encoded
from craft_jax.data.dataset import Source
from craft_jax.data.encoded import Encoded
from craft_jax.errors import DataError

NAME = "imagenet2012"
SPLITS = ("train", "validation")  # those with labels
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what published networks normalise by


def load(
    directory: str, size: int, streams: Callable[[int], bool] = lambda _: False, test_crop: float = 1.0
) -> Source:
    """The images of DIR/imagenet2012/VERSION at `size` x `size` pixels, as `pictures.read` makes them.

    They stay in their files where `streams` says so of the bytes they would have. Test images are cropped to
    their middle, to the share `test_crop`. Classes are called by their WNIDs.

    Raises:
      DataError: it is not there, or not as array_record; a size below 16; an image that cannot be decoded,
        where it is asked for.
    """
    if size < LEAST_SIDE:
        raise DataError(
            f"data.size is {size}; data.name '{NAME}' needs the side that images are resized to, of at least "
            f"{LEAST_SIDE} pixels: --config.data.size=224"
        )
    root = tfds.root_of(directory, "data.dir")
    prepared = tfds.find(root, NAME)
    if prepared is None:
        raise DataError(
            f"data.dir: {root} does not have {NAME}/VERSION, prepared by TFDS as array_record; nothing is "
            "downloaded for it. ImageNet's own directories, train/WNID/*.JPEG and val/WNID/*.JPEG, are read "
            "as they are: --config.data.name=folder --config.data.dir=DIR"
        )
    parts = []
    with tfds.quiet(), tfds.explained(prepared, "data.dir"):
        classes = tfds.class_names(prepared)
        for split, share in zip(SPLITS, (1.0, test_crop), strict=True):
            reader = tfds_encoded.Records(prepared, split, size, share)
            labels = tfds_encoded.labels_of(reader, len(classes))
            parts += [Encoded(reader, np.arange(len(labels))), labels]
    needed = parts[0].nbytes + parts[2].nbytes
    if not streams(needed):
        if needed > files.memory():
            raise DataError(
                f"data.size is {size}: the images would have {needed} bytes; this machine has "
                f"{files.memory()} of memory. --config.data.streaming=always leaves them in their files"
            )
        parts = [np.asarray(part) for part in parts]
    return Source(*parts, len(classes), MEAN, STD, classes)
