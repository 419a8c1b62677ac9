"""ONNX files: a student written as one, made int8 from one, and any classifier in one as a function.

What is written takes "images", (batch, H, W, 3) float32 in [0, 1], batch any number, and gives "logits",
(batch, K) float32; the normalisation is inside, and the names of the classes, a JSON list, are its metadata's
"classes". jax2onnx converts, onnxruntime quantises and runs.
"""

import contextlib
import hashlib
import importlib
import io
import json
import logging
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from craft_jax import files
from craft_jax.errors import CraftError, DataError
from craft_jax.runs import checkpoint

FLOAT, INT8 = "model.onnx", "model_int8.onnx"
CALIBRATION = 512  # images
_TOLERANCE = 1e-3  # of a logit, relative to the largest: what is written is compared with what it was made of


def package(name):
    """A module of requirements-onnx.txt.

    Raises:
      CraftError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CraftError(
            f"{name.partition('.')[0]} is missing: pip install -r requirements-onnx.txt"
        ) from error


def write(student, input_shape, path):
    """Write a student as an ONNX file, in float32 whatever it was trained in.

    Args:
      student: a predict.Predictor that computes in float32.
      input_shape: (H, W, 3).
      path: where to.
    Raises:
      CraftError: jax2onnx is not installed or knows no counterpart of something in the network, or what it
        made gives other logits.
    """
    convert, onnx = package("jax2onnx").to_onnx, package("onnx")

    def logits(images):
        return student.model.apply(student.variables, images, False)[0].logits

    name, said = student.config.student.name, io.StringIO()
    for told in ("jax2onnx", "onnx_ir"):  # of plugins and shapes that do not matter here
        logging.getLogger(told).setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(said):  # and of every layer
            model = convert(
                logits,
                [("batch", *input_shape)],
                model_name=name,
                input_names=["images"],
                output_names=["logits"],
            )
    except Exception as error:  # whatever it raises at what it has no counterpart for
        raise CraftError(
            f"--formats=onnx: jax2onnx cannot convert {name!r} ({type(error).__name__}: {error})"
        ) from error
    del model.graph.value_info[:]  # its notes on shapes are of before it moved channels; none need them
    told = {"params_sha256": checkpoint.params_sha256(student.variables), "network": name}
    onnx.helper.set_model_props(model, told | {"classes": json.dumps(student.classes)})
    with files.whole(path) as temporary:
        onnx.save(model, str(temporary))
        _check(student, input_shape, temporary)


def _check(student, input_shape, path):
    images = np.random.default_rng(0).uniform(size=(3, *input_shape)).astype(np.float32)
    wanted, found = np.asarray(student(images)), Classifier(path)(images)
    off = np.abs(found - wanted).max()
    if not off <= _TOLERANCE * max(1.0, np.abs(wanted).max()):
        raise CraftError(f"--formats=onnx: the file's logits are not the student's, off by {off:g}")


def quantize(source, path, images):
    """Write an int8 version of an ONNX file: weights by channel, activations by tensor.

    The ranges of activations are the least and the most that some images give (onnxruntime's MinMax).

    Args:
      source: a file of `write`.
      path: where to.
      images: (N, H, W, 3) float32 in [0, 1] to take the ranges from: training images.
    Raises:
      CraftError: onnxruntime is not installed.
    """
    quantization = package("onnxruntime.quantization")
    preprocess = package("onnxruntime.quantization.shape_inference").quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        batches = iter([images[start : start + 64] for start in range(0, len(images), 64)])

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    with tempfile.TemporaryDirectory() as folder, files.whole(path) as temporary:
        prepared = Path(folder) / "prepared.onnx"
        preprocess(str(source), str(prepared), skip_symbolic_shape=True)  # BatchNorm goes into convolutions
        logging.getLogger().disabled, before = True, logging.getLogger().disabled
        try:
            quantization.quantize_static(str(prepared), str(temporary), Reader(), per_channel=True)
        finally:
            logging.getLogger().disabled = before


class Classifier:
    """A classifier in an ONNX file as a function of images, on this machine's CPU.

    Attributes:
      layout: "NHWC" or "NCHW", by where its input's shape has the three channels.
      sides: (H, W) of its images; None for each that may be any.
      batch: how many images it takes at once, None for any number.
      classes: K, None where the file does not say.
      names: of the classes, as `write` tells them; empty in files of others.
    """

    def __init__(self, path, mean=None, std=None):
        """Open a file.

        Args:
          path: an ONNX file with one input, float32 images, and the logits as its first output.
          mean, std: three numbers each, by which images are normalised before it sees them; None where it
            normalises by itself.
        Raises:
          DataError: no such file, or no such classifier.
          CraftError: onnxruntime is not installed.
        """
        ort = package("onnxruntime")
        if not Path(path).is_file():
            raise DataError(f"{path}: no such file; allowed: an ONNX file")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a kind for each way in which a file can be broken
            said = str(error).partition("\n")[0]
            raise DataError(f"{path}: onnxruntime cannot load it ({said[:300]})") from error
        inputs, output = self._session.get_inputs(), self._session.get_outputs()[0]
        if len(inputs) != 1:
            raise DataError(f"{path}: {len(inputs)} inputs; allowed: one, the images")
        self._path, self._name, self._output = path, inputs[0].name, output.name
        self._mean, self._std = (np.asarray(x, np.float32) if x else None for x in (mean, std))
        told = f"{path}: its input {self._name!r} is {inputs[0].type} of shape {inputs[0].shape}"
        if inputs[0].type != "tensor(float)":
            raise DataError(f"{told}; allowed: float32, tensor(float)")
        shape = [side if isinstance(side, int) and side > 0 else None for side in inputs[0].shape]
        channels = [axis for axis in (1, 3) if len(shape) == 4 and shape[axis] == 3]
        if len(channels) != 1:
            raise DataError(f"{told}; allowed: (B, H, W, 3) or (B, 3, H, W), the 3 written in the file")
        self.layout = "NHWC" if channels == [3] else "NCHW"
        self.batch, self.sides = shape[0], tuple(shape[1:3] if channels == [3] else shape[2:])
        if len(output.shape) != 2 or output.type != "tensor(float)":
            raise DataError(
                f"{path}: its first output {output.name!r} is {output.type} of shape {output.shape}; "
                "allowed: float32 logits (B, K)"
            )
        self.classes = output.shape[1] if isinstance(output.shape[1], int) else None
        self.names = self._names()

    def _names(self):
        try:
            names = json.loads(self._session.get_modelmeta().custom_metadata_map["classes"])
        except (KeyError, ValueError, RecursionError):
            return ()
        # What others keep by this key may be anything.
        is_ours = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return tuple(names) if is_ours and len(names) == self.classes else ()

    def check(self, input_shape, num_classes, classes=()):
        """Check that it takes images of one shape, (H, W, 3), and tells so many classes apart.

        Args:
          classes: their names; empty where the data has none.

        Raises:
          DataError: it does not.
        """
        sides = tuple(own or side for own, side in zip(self.sides, input_shape, strict=False))
        if sides != tuple(input_shape[:2]):
            raise DataError(
                f"{self._path}: its images are {sides[0]}x{sides[1]}, the data's "
                f"{input_shape[0]}x{input_shape[1]} (--config.data.size=N shrinks the data's)"
            )
        found = self(np.full((1, *input_shape), 0.5, np.float32)).shape[-1]
        if found != num_classes:
            raise DataError(f"{self._path}: it has {found} classes, the data {num_classes}")
        numbers = tuple(map(str, range(num_classes)))  # what `write` calls classes without names
        if classes and self.names not in ((), numbers, tuple(classes)):
            own, other = next(pair for pair in zip(self.names, classes, strict=True) if len({*pair}) == 2)
            raise DataError(f"{self._path}: its classes are not the data's: {own} where that has {other}")

    def __call__(self, images: Float[np.ndarray, "B H W 3"]) -> Float[np.ndarray, "B K"]:
        """Logits of images.

        Args:
          images: float32 in [0, 1].
        Returns:
          float32.
        Raises:
          DataError: onnxruntime cannot run the file on them.
        """
        x = np.asarray(images, np.float32)
        if self._mean is not None:
            x = x - self._mean
        if self._std is not None:
            x = x / self._std
        if self.layout == "NCHW":
            x = np.ascontiguousarray(np.moveaxis(x, -1, 1))
        size = self.batch or len(x)
        # A file for batches of one size: the last is filled up, and what fills it cut off.
        parts = [x[np.minimum(np.arange(s, s + size), len(x) - 1)] for s in range(0, len(x), size)]
        try:
            logits = [self._session.run([self._output], {self._name: part})[0] for part in parts]
        except Exception as error:  # onnxruntime has a kind for each
            said = str(error).partition("\n")[0]
            raise DataError(f"{self._path}: onnxruntime cannot run it ({said[:300]})") from error
        return np.concatenate(logits)[: len(x)]


def sha256(path):
    """Hex SHA-256 of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
