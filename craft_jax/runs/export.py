"""A trained student for other programs: `python -m craft_jax.export DIR` writes DIR/export/.

model.safetensors   the weights, with model.json and the run's records (`craft_jax.runs.weights`)
model.jax_export    a function of images alone, weights included, that `jax.export.deserialize` runs
                    without this package, on CPU and CUDA, at any batch size
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export as jax_export

from craft_jax import files
from craft_jax.errors import CraftError
from craft_jax.runs import predict, weights

PLATFORMS = ("cpu", "cuda")


def export(workdir):
    """Write DIR/export/.

    Args:
      workdir: a run's working directory.
    Returns:
      The directory written.
    Raises:
      CheckpointError: no run there, or one without a checkpoint.
      CraftError: safetensors is not installed.
    """
    directory = Path(workdir) / "export"
    student = write_weights(workdir, directory)
    artefact = serialize(student, files.read_json(Path(workdir) / "dataset.json")["input_shape"])
    with files.whole(directory / "model.jax_export") as temporary:
        temporary.write_bytes(artefact)
    return directory


def write_weights(workdir, directory):
    """Write the weights alone, with the records that say what they are; returns the predict.Predictor.

    Args:
      workdir: a run's working directory.
      directory: where to.
    Raises:
      CheckpointError, CraftError: as `export`.
    """
    weights.package()  # now, if it is missing
    student = predict.load(workdir)
    data_record = files.read_json(Path(workdir) / "dataset.json")
    described = {
        "network": student.config.student.name,
        "input": ["batch", *data_record["input_shape"]],
        "input_range": [0.0, 1.0],
        "output": ["batch", data_record["num_classes"]],
        "mean": data_record["mean"],
        "std": data_record["std"],
        "jax": jax.__version__,
        "platforms": PLATFORMS,
    }
    weights.save(workdir, directory, student.variables, student.step, described)
    return student


def serialize(student, input_shape):
    """The bytes of a jax.export artefact: (B, H, W, C) float32 in [0, 1] -> (B, K) float32 logits.

    Args:
      student: a predict.Predictor.
      input_shape: (H, W, C).
    """

    def logits(images):
        return student.model.apply(student.variables, images, False)[0].logits

    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *input_shape), jnp.float32)
    return bytes(jax_export.export(jax.jit(logits), platforms=PLATFORMS)(images).serialize())


def main(argv=None):
    """Export one run; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m craft_jax.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workdir", metavar="DIR", help="working directory of a run")
    try:
        directory = export(parser.parse_args(argv).workdir)
    except CraftError as error:
        print(f"craft_jax: {error}", file=sys.stderr)
        return 2
    print(f"written to {directory}")
    return 0
