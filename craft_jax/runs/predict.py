"""A trained student in use: `predict = craft_jax.load(DIR)`, then `predict(images)`."""

from pathlib import Path

import jax
import jax.numpy as jnp

from craft_jax import files, models
from craft_jax.config import tree
from craft_jax.runs import checkpoint


class Predictor:
    """A trained network as a function of images.

    Attributes:
      model: a models.Model, pure init and apply.
      variables: {"params", "batch_stats"}.
      config: the ConfigDict that it was trained with.
      step: how many steps it was trained for.
    """

    def __init__(self, model, variables, config, step):
        self.model, self.variables, self.config, self.step = model, variables, config, step
        self._apply = jax.jit(lambda variables, images: model.apply(variables, images, False)[0].logits)

    def __call__(self, images):
        """Logits, (B, K) float32, of images (B, H, W, 3) float32 in [0, 1].

        Raises:
          ValueError: the images have another rank or type.
        """
        images = jnp.asarray(images)
        if images.ndim != 4 or images.shape[-1] != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(
                f"images: {images.dtype}{images.shape}; allowed: floats in [0, 1] of shape (B, H, W, 3)"
            )
        return self._apply(self.variables, images.astype(jnp.float32))


def load(workdir, dtype=""):
    """Load the newest student of a run.

    Args:
      workdir: a run's working directory.
      dtype: what to compute in, "float32" or "bfloat16"; "" for what the run computed in.
    Returns:
      A Predictor.
    Raises:
      CheckpointError: no run there, or one without a checkpoint.

    >>> predict = load("runs/demo/craft")  # doctest: +SKIP
    >>> predict(images).argmax(-1)  # doctest: +SKIP
    """
    config = tree.from_json(files.read_json(Path(workdir) / "config.json"))
    card = files.read_json(Path(workdir) / "dataset.json")
    variables, step = checkpoint.restore_student(workdir)
    model = models.build(
        config.student.name,
        card["num_classes"],
        dtype=dtype or config.dtype,
        mean=tuple(card["mean"]),
        std=tuple(card["std"]),
    )
    return Predictor(model, variables, config, step)
