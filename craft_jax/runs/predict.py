"""A trained student in use: `predict = craft_jax.load(DIR)`, then `predict(images)`."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from craft_jax import data, files, models
from craft_jax.config import tree
from craft_jax.errors import CheckpointError
from craft_jax.runs import checkpoint, weights

_LEAST_SIDE = 8  # pixels, which every network's strides need
_LARGEST_SIDE = 2**14  # pixels
_LARGEST = 1e30  # of a mean, in float32 with room; a deviation is at least its inverse
_ROUNDING = 1e-3  # how far outside [0, 1] what resizes or averages images may leave a pixel


class Predictor:
    """A trained network as a function of images.

    Attributes:
      model: a models.Model, pure init and apply.
      variables: {"params", "batch_stats"}, NumPy arrays; calls use a copy on the device, sent there once.
      config: the ConfigDict that it was trained with.
      step: how many steps it was trained for.
      mean, std: what the model normalises images by, three numbers each.
      classes: names of the K classes, in the order of the logits; their numbers where the data has no names.
      input_shape: (H, W, 3) of the images that it was trained on.
    """

    def __init__(self, model, variables, config, step, mean, std, classes=(), input_shape=()):
        self.model, self.variables, self.config, self.step = model, variables, config, step
        self.mean, self.std = mean, std
        self.classes, self.input_shape = classes, input_shape
        self._on_device = jax.device_put(variables)

    def __call__(self, images: Float[Array | np.ndarray, "B H W 3"]) -> Float[Array, "B K"]:
        """Logits of images.

        Args:
          images: floats in [0, 1]. H and W may differ from those trained on (8 or more), since
            the network is convolutional with a mean over positions; its accuracy there was not measured.
        Returns:
          float32.
        Raises:
          TypeError: the images are not floats.
          ValueError: another shape, or values outside [0, 1] or not finite. Under `jax.jit`, `grad` or
            `vmap` values are not known while tracing, and not checked.
        """
        images = jnp.asarray(images)
        _check(images)
        return _logits(self.model, self._on_device, images)


@functools.partial(jax.jit, static_argnames="model")
def _logits(model, variables, images):
    return model.apply(variables, images.astype(jnp.float32), False)[0].logits


def _check(images):
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"images: {images.dtype}; allowed: floats in [0, 1] (divide uint8 by 255)")
    if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < _LEAST_SIDE:
        raise ValueError(f"images: shape {images.shape}; allowed: (B, H, W, 3), H and W >= {_LEAST_SIDE}")
    if isinstance(images, jax.core.Tracer) or not len(images):
        return
    least, most = map(float, jax.device_get(_extremes(images)))
    if not (least >= -_ROUNDING and most <= 1 + _ROUNDING):  # NaN is neither
        held = f"values from {least:g} to {most:g}" if least <= most else "NaN among the values"
        raise ValueError(f"images: {held}; allowed: [0, 1] (divide values of 0..255 by 255)")


@jax.jit
def _extremes(images):
    return jnp.min(images), jnp.max(images)


def load(workdir, dtype="", precision=""):
    """Load the newest student of a run.

    Args:
      workdir: a run's working directory, or an export's (`craft_jax.runs.weights`).
      dtype: what to compute in, "float32" or "bfloat16"; "" for what the run computed in.
      precision: of float32 convolutions, "default" or "highest" (`models.build`); "" for the run's.
    Returns:
      A Predictor.
    Raises:
      CheckpointError: no run there, or one without a checkpoint, or damaged, or of an unknown network.

    >>> predict = load("runs/demo/craft")  # doctest: +SKIP
    >>> predict(images).argmax(-1)  # doctest: +SKIP
    """
    stored = files.read_json(Path(workdir) / "config.json")
    data_record = files.read_json(Path(workdir) / "dataset.json")
    try:
        config = tree.from_json(stored)
        known = config.student.name in models.REGISTRY
        data_record["num_classes"] + 0, tuple(data_record["mean"]), tuple(data_record["std"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{workdir}: config.json or dataset.json is not what a run writes") from error
    if not known:
        raise CheckpointError(
            f"{workdir}: its network, {config.student.name!r}, is none of this package's; import the file of "
            "yours that registers it first"
        )
    exported = (Path(workdir) / weights.FILE).exists()
    variables, step = weights.load(workdir) if exported else checkpoint.restore_student(workdir)
    # Imported weights may be normalised otherwise than the data's own record says.
    normalisation = data_record | (files.read_json(Path(workdir) / "model.json") if exported else {})
    mean = _three(workdir, "mean", normalisation.get("mean"), -_LARGEST)
    std = _three(workdir, "std", normalisation.get("std"), 1 / _LARGEST)
    model = models.build(
        config.student.name,
        data_record["num_classes"],
        dtype=dtype or config.dtype,
        mean=mean,
        std=std,
        precision=precision or config.precision,
    )
    classes, shape = _classes(workdir, data_record), _shape(workdir, data_record.get("input_shape"))
    return Predictor(model, variables, config, step, mean, std, classes, shape)


def _classes(workdir, record):
    """The names of a record's classes, checked: the file may be from elsewhere."""
    count, stored = record["num_classes"], record.get("classes")  # absent from an older version's
    names = stored is None or (isinstance(stored, list) and all(isinstance(name, str) for name in stored))
    if not names or (stored is not None and len(stored) != count):
        raise CheckpointError(
            f"{workdir}: the classes in dataset.json are {repr(stored)[:100]}; allowed: the names of {count}"
        )
    if count > data.MOST_CLASSES:
        raise CheckpointError(f"{workdir}: {count} classes in dataset.json; allowed: {data.MOST_CLASSES}")
    return data.class_names(record)


def _shape(workdir, stored):
    """A record's input_shape as a tuple, likewise."""
    sides = stored[:2] if isinstance(stored, list) and len(stored) == 3 and stored[2] == 3 else [None]
    if not all(type(side) is int and _LEAST_SIDE <= side <= _LARGEST_SIDE for side in sides):
        raise CheckpointError(
            f"{workdir}: the input_shape in dataset.json is {repr(stored)[:100]}; allowed: [H, W, 3], sides "
            f"of {_LEAST_SIDE} to {_LARGEST_SIDE} pixels"
        )
    return tuple(stored)


def _three(workdir, key, values, least):
    """A record's mean or std as a tuple, checked: the file may be from elsewhere."""
    is_list = isinstance(values, list) and len(values) == 3
    if not is_list or not all(type(v) in (int, float) and least <= v <= _LARGEST for v in values):
        raise CheckpointError(
            f"{workdir}: the {key} of its images is {repr(values)[:100]}; allowed: three finite numbers"
            + (" above 0" if least > 0 else "")
        )
    return tuple(values)
