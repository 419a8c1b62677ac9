"""Weights that other code has trained: a safetensors file in, the variables of a network here out.

Nothing is unpickled. Names, shapes and types are compared with the network's before any array is read, and
every tensor of the file and every variable of the network must have its counterpart.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from craft_jax.errors import CheckpointError
from craft_jax.models import torch_names
from craft_jax.runs import checkpoint, weights

_TYPES = ("F64", "F32", "F16", "BF16")
_LISTED = 20  # names of a kind in an error
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_CONVERT = (
    "import torch, safetensors.torch as s; "
    'd = torch.load("FILE.pth", map_location="cpu", weights_only=True); '
    's.save_file({k: v.contiguous() for k, v in d.get("model", d).items()}, "FILE.safetensors")'
)


class Tensor(NamedTuple):
    """What a file says of one tensor: its shape, and its type as safetensors spells it, such as "F32"."""

    shape: tuple[int, ...]
    dtype: str


class Mapping(NamedTuple):
    """Which tensor of a file is which variable of a network.

    Attributes:
      convention: whose names the file has; see `torch_names.names`.
      names: {path of a variable: name of its tensor}.
      skipped: names of the file's tensors that a network here has no use for.
      absent: paths of the head's variables, where the code that made the file has no head.
    """

    convention: str
    names: dict[str, str]
    skipped: tuple[str, ...]
    absent: tuple[str, ...] = ()


def header(path):
    """{name: Tensor} of a safetensors file; no array is read.

    Raises:
      CheckpointError: no such file, a pickle, or not whole.
      CraftError: safetensors is not installed.
    """
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, no mapping
        return {name: Tensor(tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}


def mapping(path, network, tensors, abstract):
    """Find whose names a file has, and every variable's tensor.

    Args:
      path: of the file, for messages.
      network: its name.
      tensors: from `header`.
      abstract: the network's variables, {"params", "batch_stats"}, as jax.ShapeDtypeStructs.
    Returns:
      A Mapping.
    Raises:
      CheckpointError: a tensor or a variable is left over, or a shape or a type is another; all are listed.
    """
    shapes = {checkpoint.path_of(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(abstract)}
    prefix = "module." if tensors and all(name.startswith("module.") for name in tensors) else ""
    ways = [
        (whose, {path: prefix + name for path, name in named.items()})
        for whose, named in torch_names.names(network, list(shapes))
    ]
    whose, named = max(ways, key=lambda way: len(tensors.keys() & set(way[1].values())))
    skipped = [name for name in tensors if torch_names.is_unused(network, name)]
    extra = sorted(tensors.keys() - set(named.values()) - set(skipped))
    missing = {path: name for path, name in named.items() if name not in tensors}
    odd = list(_odd(whose, named, tensors, shapes))
    if extra or missing or odd:
        lines = [f"{path} is not a {network} under the names of {whose}:"]
        lines += _listed("in the file, with no place in the network", [_told(n, tensors[n]) for n in extra])
        lines += _listed("in the network, not in the file", [f"{p} (as {n})" for p, n in missing.items()])
        lines += _listed("of another shape or type", odd)
        raise CheckpointError("\n".join(lines))
    return Mapping(whose, named, tuple(skipped), tuple(path for path in shapes if path not in named))


def _odd(whose, named, tensors, shapes):
    """What differs in tensors that are on both sides, in words."""
    for path, name in named.items():
        if name not in tensors:
            continue
        found = tensors[name]
        wanted = shapes[path] if whose == torch_names.PATH_NAMES else torch_names.to_torch(path, shapes[path])
        if found.shape != wanted.shape:
            yield f"{_told(name, found)}, should be {wanted.shape}"
        elif found.dtype not in _TYPES:
            yield f"{_told(name, found)}; allowed: {', '.join(_TYPES)}"


def _told(name, tensor):
    return f"{name[:200]!r} {tensor.dtype}{tensor.shape}"  # whatever the file has: no escape is printed


def _listed(what, names):
    names = list(names)
    if not names:
        return
    yield f"  {what}: {len(names)}"
    yield from (f"    {name}" for name in names[:_LISTED])
    if len(names) > _LISTED:
        yield f"    ... and {len(names) - _LISTED} more"


def read(path, found):
    """The variables of a file, {"params", "batch_stats"}, float32 NumPy arrays; without those it has not.

    Args:
      path: of the file.
      found: its Mapping.
    Raises:
      CheckpointError: it is damaged, or holds a value that is not finite, or a negative variance.
    """
    flat = {}
    with _opened(path) as file:
        for place, name in found.names.items():
            tensor = np.asarray(file.get_tensor(name), np.float32)
            if not np.isfinite(tensor).all():
                raise CheckpointError(f"{path}: {name} holds values that are not finite")
            if place.endswith("/var") and (tensor < 0).any():
                raise CheckpointError(f"{path}: {name}, a variance, holds negative values")
            own = found.convention == torch_names.PATH_NAMES
            flat[place] = tensor if own else torch_names.from_torch(place, tensor)
    return {"params": {}, "batch_stats": {}, **weights.nested(flat)}


def _opened(path):
    """The file as safetensors reads it, checked: its header is sound, and as long as its tensors need."""
    safe_open = weights.package().safe_open
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return safe_open(path, "numpy")
    except Exception as error:  # safetensors has an exception of its own for each kind of damage
        if start.startswith(_PICKLES):  # asked now: the length of a sound file's header may begin so too
            raise CheckpointError(
                f"{path}: PyTorch's own format, a pickle, which can run code and is not read here; where "
                f"torch is installed: python -c '{_CONVERT}'"
            ) from error
        raise CheckpointError(f"{path}: not readable as safetensors ({error})") from error
