"""What a trained student sees in pictures: `python -m craft_jax.predict DIR IMAGE [IMAGE ...]`.

DIR is a run's working directory, an export's, or its ONNX file, which onnxruntime then runs on the CPU
(requirements-onnx.txt). A picture (JPEG, PNG, BMP, WebP) is turned as its EXIF orientation says, resized so
as to cover the size of the images that the student was trained on, and cropped to it about its centre, as a
folder's pictures are for training (craft_jax/pictures.py). Each has a line: the likeliest classes and their
probabilities, the softmax of the logits; how far these can be trusted says the ECE in results.json. With
--json a list is printed, of {"image": FILE, "classes": [{"class": NAME, "probability": P}, ...]}.

exit status
  0   done
  2   something to put right, such as a picture that cannot be read: the message says what
"""

import argparse
import json
import sys

import numpy as np
from scipy import special

from craft_jax import errors, pictures
from craft_jax.errors import DataError
from craft_jax.runs import canary, compilation_cache, onnx_format, predict

_BATCH = 64  # pictures that the network sees together


@errors.command
def main(argv):
    """Print what a student sees in pictures; returns the exit status."""
    options = _parse(argv)
    of_student = _of_onnx if options.workdir.endswith(".onnx") else _of_jax
    network, classes, shape = of_student(options.workdir)
    images = _read(options.images, shape)
    rows = [_likeliest(row, classes, options.top) for row in _probabilities(network, images)]
    if options.json:
        print(json.dumps([_json(path, found) for path, found in zip(options.images, rows, strict=True)]))
        return 0
    for path, found in zip(options.images, rows, strict=True):
        told = ", ".join(f"{name} {100 * probability:.2f}%" for name, probability in found)
        print(errors.printable(f"{path}: {told}"))
    return 0


def _parse(argv):
    parser = errors.Parser(prog="python -m craft_jax.predict", description=__doc__)
    parser.add_argument(
        "workdir", metavar="DIR", help="a run's working directory, an export's, or its ONNX file"
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a picture")
    parser.add_argument(
        "--top", type=_count, default=3, metavar="N", help="how many classes to name (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(argv)


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: an integer of at least 1")
    return int(text)


def _of_jax(workdir):
    """(images -> logits, the classes' names, the images' shape) of a run or an export."""
    student = predict.load(workdir)
    if student.config.compilation_cache:
        compilation_cache.use()
    canary.check()
    return student, student.classes, student.input_shape


def _of_onnx(path):
    """The same of an ONNX file; nothing of it is computed by JAX."""
    network = onnx_format.Classifier(path)
    if not network.names or None in network.sides:
        raise DataError(
            f"{path}: it says no names of classes, or no size of images; allowed: an ONNX file of "
            "python -m craft_jax.export, of this version or a later one"
        )
    return network, network.names, (*network.sides, 3)


def _read(paths, shape):
    """(N, H, W, 3) uint8; every picture that cannot be read is in the one message."""
    images, faults = np.empty((len(paths), *shape), np.uint8), []
    for row, path in enumerate(paths):
        try:
            images[row] = pictures.read(path, *shape[:2])
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    return images


def _probabilities(network, images):
    """(N, K) float64."""
    batches = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
    logits = [np.asarray(network(np.float32(batch) / np.float32(255)), np.float64) for batch in batches]
    return special.softmax(np.concatenate(logits), axis=-1)


def _likeliest(row, classes, top):
    """[(class, probability)], the likeliest first; of equal ones the first in the data's order."""
    return [(classes[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]]


def _json(path, found):
    return {"image": path, "classes": [{"class": name, "probability": p} for name, p in found]}


if __name__ == "__main__":
    sys.exit(main())
