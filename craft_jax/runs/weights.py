"""A trained network in one small file that other programs read: safetensors, with the records beside it.

DIR/model.safetensors   parameters and batch statistics by their '/'-joined paths, float32
DIR/model.json          what they are: network, classes, input, normalisation, step, parameters' hash
DIR/config.json, DIR/dataset.json, DIR/results.json    the run's own

So an export's directory serves as a run's does: `craft_jax.load` and `teacher.checkpoint` take it.
"""

import importlib
from pathlib import Path

import jax
import numpy as np

from craft_jax import files
from craft_jax.errors import CheckpointError, CraftError
from craft_jax.runs import checkpoint

FILE = "model.safetensors"
_RECORDS = ("config.json", "dataset.json", "results.json")


def save(workdir, directory, variables, step, more):
    """Write a run's network and its records into `directory`.

    Args:
      workdir: the run's working directory.
      directory: where to write; made if it is not there.
      variables: {"params", "batch_stats"}, nested dicts of arrays.
      step: the training step that they are of.
      more: what model.json says beside the two above and the hash.
    Raises:
      CheckpointError: the directory cannot be made.
      CraftError: safetensors is not installed.
    """
    directory = Path(directory)
    write(directory / FILE, leaves(variables))
    for name in _RECORDS:
        if (Path(workdir) / name).exists():  # a run that has not finished has no result yet
            files.copy(Path(workdir) / name, directory / name)
    describe(directory, variables, step, more)


def write(path, tensors, metadata=None):
    """Write {name: array} as a safetensors file, whole or not at all; its directory is made if need be.

    Raises:
      CheckpointError: the directory cannot be made.
      CraftError: safetensors is not installed.
    """
    serialize, path = package().save, Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{path.parent}: cannot be made ({error.strerror})") from error
    with files.whole(path) as temporary:
        temporary.write_bytes(serialize(tensors, metadata))


def describe(directory, variables, step, more):
    """Write DIR/model.json; arguments as of `save`."""
    record = {**more, "step": step, "params_sha256": checkpoint.params_sha256(variables)}
    files.write_json(Path(directory) / "model.json", record)


def leaves(variables):
    """{path: array} of a network's variables, the arrays contiguous."""
    flat = jax.tree_util.tree_leaves_with_path(variables)
    return {checkpoint.path_of(path): np.ascontiguousarray(leaf) for path, leaf in flat}


def load(directory):
    """(variables, step) of what `save` wrote.

    Raises:
      CheckpointError: the file is damaged, or not the one that model.json describes.
      CraftError: safetensors is not installed.
    """
    path = Path(directory) / FILE
    record = files.read_json(Path(directory) / "model.json")
    load_file = package().load_file
    try:
        variables = {"params": {}, "batch_stats": {}, **nested(load_file(path))}
    except Exception as error:  # safetensors has an exception of its own for each kind of damage
        raise CheckpointError(f"{path}: not readable as safetensors ({error})") from error
    try:
        wanted, step = record["params_sha256"], record["step"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{directory}/model.json: no record of an export; export it again") from error
    if checkpoint.params_sha256(variables) != wanted:
        raise CheckpointError(f"{path}: not the parameters that model.json describes; export it again")
    return variables, step


def nested(tensors):
    """{"a/b": array} as {"a": {"b": array}}.

    Raises:
      ValueError: there is "a" as well.
    """
    tree = {}
    for path, tensor in tensors.items():
        *groups, leaf = path.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or leaf in node:
            raise ValueError(f"{path[:200]!r} and another of its tensors lie within each other")
        node[leaf] = tensor
    return tree


def package():
    """The module safetensors.numpy.

    Raises:
      CraftError: it is not installed.
    """
    try:
        return importlib.import_module("safetensors.numpy")
    except ImportError as error:
        raise CraftError("safetensors is missing: pip install -r requirements-export.txt") from error
