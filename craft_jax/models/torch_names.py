"""What PyTorch code calls the arrays that a network here has, and how it lays them out.

The names are those of a state dict: of RepDistiller's and mdistiller's networks (their common resnet.py,
wrn.py and so on), of torchvision's ResNets, of Hugging Face's DINOv2, and of this package's own export, which
are the paths here.
"""

import re
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from craft_jax import models
from craft_jax.models import imagenet_resnet, mobilenetv2, resnet, shufflenetv2, vgg, vit, wide_resnet

PATH_NAMES = "craft_jax"
MASK_TOKEN = "embeddings.mask_token"  # DINOv2's, for pretraining alone


class Convention(NamedTuple):
    """How one code base names a family's modules; a block is the g-th group's b-th.

    Attributes:
      name: whose it is.
      block: the prefix of a block, with {g}, {b}; {g0} and {b0} count from 0. Where blocks are not in groups
        g is 1.
      layers: {layer here: theirs}, of blocks and outside them. One that is not named is called as here, a
        "norm" a "bn". {conv} and {norm} are the numbers in a sequence of convolution, norm, activation.
      prefix: of all but the head.
      headless: whether there is none: a classifier is then fitted (`evaluation.probe`).
    """

    name: str
    block: str
    layers: dict[str, str]
    prefix: str = ""
    headless: bool = False


_STEM = {"stem_conv": "conv1", "stem_norm": "bn1"}
_DOWNSAMPLE = {"shortcut_conv": "downsample.0", "shortcut_norm": "downsample.1"}
_SHORTCUT = {"shortcut_conv": "shortcut.0", "shortcut_norm": "shortcut.1"}

_RESNET = Convention("RepDistiller", "layer{g}.{b0}", {**_STEM, **_DOWNSAMPLE, "head": "fc"})
_WIDE_RESNET = Convention(
    "RepDistiller",
    "block{g}.layer.{b0}",
    {"stem_conv": "conv1", "final_norm": "bn1", "shortcut_conv": "convShortcut", "head": "fc"},
)
_VGG = Convention("RepDistiller", "block{g}", {"conv": "{conv}", "norm": "{norm}", "head": "classifier"})
_MOBILENET = Convention(
    "RepDistiller",
    "blocks.{g0}.{b0}.conv",
    {
        **{"stem_conv": "conv1.0", "stem_norm": "conv1.1", "last_conv": "conv2.0", "last_norm": "conv2.1"},
        **{"expand_conv": "0", "expand_norm": "1", "depthwise_conv": "3", "depthwise_norm": "4"},
        **{"project_conv": "6", "project_norm": "7", "head": "classifier.0"},
    },
)
_SHUFFLENET = Convention(
    "RepDistiller", "layer{g}.{b0}", {**_STEM, "last_conv": "conv2", "last_norm": "bn2", "head": "linear"}
)
_RESNET_V2 = Convention("RepDistiller", "layer{g}.{b0}", {**_STEM, **_SHORTCUT, "head": "linear"})
_TORCHVISION = _RESNET._replace(name="torchvision")

_DINOV2_CLASSIFIER = Convention(
    "Hugging Face's Dinov2ForImageClassification",
    "encoder.layer.{b0}",
    {
        **{"class_token": "embeddings.cls_token", "positions": "embeddings.position_embeddings"},
        **{"patches": "embeddings.patch_embeddings.projection", "norm": "layernorm", "head": "classifier"},
        **{"norm1": "norm1", "norm2": "norm2", "fc1": "mlp.fc1", "fc2": "mlp.fc2"},
        **{name: f"attention.attention.{name}" for name in ("query", "key", "value")},
        "out": "attention.output.dense",
    },
    prefix="dinov2.",
)
_DINOV2 = _DINOV2_CLASSIFIER._replace(name="Hugging Face's Dinov2Model", prefix="", headless=True)
# The published files have the names above; in memory transformers 5 has others.
_PROJECTIONS_5 = {
    **{"query": "attention.q_proj", "key": "attention.k_proj", "value": "attention.v_proj"},
    "out": "attention.o_proj",
}
_DINOV2_5, _DINOV2_CLASSIFIER_5 = (
    one._replace(name=f"{one.name} in transformers 5", layers={**one.layers, **_PROJECTIONS_5})
    for one in (_DINOV2, _DINOV2_CLASSIFIER)
)

# A pattern of a whole name, where such a network is the package's own, its conventions: the first is written.
_FAMILIES = (
    (r"resnet(18|34|50)-imagenet", imagenet_resnet.MODELS, (_TORCHVISION, _RESNET_V2)),
    (r"resnet(18|34|50)", imagenet_resnet.MODELS, (_RESNET_V2, _TORCHVISION)),
    (r"resnet\d+(x4)?", resnet.MODELS, (_RESNET,)),
    (r"wrn-\d+-\d+", wide_resnet.MODELS, (_WIDE_RESNET,)),
    (r"vgg\d+", vgg.MODELS, (_VGG,)),
    (r"mobilenetv2", mobilenetv2.MODELS, (_MOBILENET,)),
    (r"shufflenetv2", shufflenetv2.MODELS, (_SHUFFLENET,)),
    (
        r"vit_\w+14(-224)?",
        vit.MODELS,
        (_DINOV2_CLASSIFIER, _DINOV2, _DINOV2_CLASSIFIER_5, _DINOV2_5),
    ),
)

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_AXES = {4: (3, 2, 0, 1), 2: (1, 0)}  # of a kernel: HWIO to OIHW, and a dense layer's


def conventions(network: str) -> tuple[Convention, ...]:
    """Those that PyTorch code has for a network, () where none is known: of one's own, whatever its name.

    Args:
      network: a name; a key of `models.REGISTRY` or not.
    """
    for pattern, own, found in _FAMILIES:
        if re.fullmatch(pattern, network) and network in own:
            return found if models.REGISTRY.get(network) is own[network] else ()
    return ()


def is_unused(network: str, name: str) -> bool:
    """Whether a tensor of a state dict has no use here: a BatchNorm's counter, or DINOv2's mask token.

    Args:
      network: its name.
      name: in the state dict.
    """
    if _DINOV2 in conventions(network) and re.fullmatch(
        rf"(module\.)?(dinov2\.)?{re.escape(MASK_TOKEN)}", name
    ):
        return True
    return name.endswith("num_batches_tracked")


def name_of(convention: Convention, path: str) -> str:
    """The name in a state dict of a variable here.

    Args:
      convention: one of `conventions(network)`.
      path: its '/'-joined path, such as "params/group1_block2/conv1/kernel".

    >>> name_of(conventions("resnet20")[0], "batch_stats/group1_block2/norm1/var")
    'layer1.1.bn1.running_var'
    """
    _, *within, leaf = path.split("/")
    if not within:
        return convention.prefix + convention.layers[leaf]
    *block, layer = within
    prefix = "" if layer == "head" else convention.prefix
    name = convention.layers.get(layer, layer.replace("norm", "bn"))
    leaf = _LEAVES.get(leaf, leaf)
    if not block:
        return f"{prefix}{name}.{leaf}"
    g, b = re.fullmatch(r"(?:group(\d+)_)?block(\d+)", block[0]).groups(default="1")
    g, b = int(g), int(b)
    numbers = {"g": g, "b": b, "g0": g - 1, "b0": b - 1, "conv": 3 * (b - 1), "norm": 3 * (b - 1) + 1}
    return f"{prefix}{convention.block}.{name}.{leaf}".format(**numbers)


def names(network: str, paths: list[str]) -> list[tuple[str, dict[str, str]]]:
    """Every way to name a network's variables: [(whose, {path: name})], this package's own the last.

    Of code that has no head, its variables are left out.

    Args:
      network: a name; without `conventions` the last way is the only one.
      paths: the '/'-joined paths of its variables.
    """
    ways = []
    for one in conventions(network):
        theirs = [path for path in paths if not (one.headless and path.startswith("params/head/"))]
        ways.append((one.name, {path: name_of(one, path) for path in theirs}))
    return [*ways, (PATH_NAMES, {path: path for path in paths})]


def to_torch(path: str, array: Float[Any, "..."]) -> Float[Any, "..."]:
    """A variable as PyTorch lays it out; of arrays, or of jax.ShapeDtypeStructs their shapes.

    Args:
      path: its '/'-joined path.
      array: as it is here.
    """
    axes = _AXES.get(len(array.shape)) if path.endswith("/kernel") else None
    if not axes:
        return array
    if isinstance(array, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(tuple(array.shape[axis] for axis in axes), array.dtype)
    return np.ascontiguousarray(array.transpose(axes))


def from_torch(path: str, array: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The inverse of `to_torch`, of an array."""
    axes = _AXES.get(array.ndim) if path.endswith("/kernel") else None
    return np.ascontiguousarray(array.transpose(np.argsort(axes))) if axes else array
