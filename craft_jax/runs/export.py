"""A trained student for other programs: `python -m craft_jax.export DIR` writes DIR/export/.

model.safetensors   the parameters and batch statistics by their '/'-joined paths, float32
model.jax_export    a function of images alone, weights included, that `jax.export.deserialize` runs
                    without this package, on CPU and CUDA, at any batch size
model.json          what they are: network, classes, input, normalisation, parameters' hash
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from craft_jax import files
from craft_jax.errors import CheckpointError, CraftError
from craft_jax.runs import checkpoint, predict

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
    save_file = _safetensors().save_file
    student = predict.load(workdir)
    card = files.read_json(Path(workdir) / "dataset.json")
    directory = Path(workdir) / "export"
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be made ({error.strerror})") from error

    flat = jax.tree_util.tree_leaves_with_path(student.variables)
    tensors = {checkpoint.path_of(path): np.ascontiguousarray(leaf) for path, leaf in flat}
    _write(directory / "model.safetensors", lambda path: save_file(tensors, path))
    artefact = serialize(student, card["input_shape"])
    _write(directory / "model.jax_export", lambda path: path.write_bytes(artefact))
    facts = {
        "network": student.config.student.name,
        "input": ["batch", *card["input_shape"]],
        "input_range": [0.0, 1.0],
        "output": ["batch", card["num_classes"]],
        "mean": card["mean"],
        "std": card["std"],
        "params_sha256": checkpoint.params_sha256(student.variables),
        "jax": jax.__version__,
        "platforms": PLATFORMS,
    }
    files.write_json(directory / "model.json", facts)
    return directory


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


def _write(path, write):
    """Write beside and rename, so that a reader never meets half a file."""
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)


def _safetensors():
    try:
        return importlib.import_module("safetensors.numpy")
    except ImportError as error:
        raise CraftError("export needs safetensors: pip install -r requirements-export.txt") from error


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
