"""A frozen network with each BatchNorm folded into the convolution that feeds it.

On a GPU a convolution with its bias and ReLU is one kernel of cuDNN: a teacher then takes little more than
one a layer. In float32 logits are the same to a relative 1e-4. In bfloat16 the folded kernels and biases are
kept so, where each step would round all of a float32 network's anew.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.ad_checkpoint import checkpoint_name

from craft_jax.models.batch_norm import BatchNorm, folded


def fold(model: Any, shape: Sequence[int]) -> tuple[Any, Callable[[Any], Any]]:
    """Fold what can be: BatchNorms that alone read a convolution, so not the first ones of wide ResNets, each
    called once.

    Args:
      model: a models.Model.
      shape: of its images, (H, W, 3).
    Returns:
      (the Model of folded variables, which does not train; the function that folds variables of `model`).
    """
    pairs = _pairs(model, shape)
    norms = {norm for norm, _ in pairs.values()}

    def variables_of(variables):
        params, stats = (flatten_dict(variables[name]) for name in ("params", "batch_stats"))
        biases = {}
        for conv, (norm, dtype) in pairs.items():
            kernel, bias = (*conv, "kernel"), (*conv, "bias")
            affine, running = ({k: flat[*norm, k] for k in keys} for flat, keys in _read(params, stats))
            both = folded(params[kernel], params.get(bias, 0), affine, running)
            params[kernel], biases[bias] = (x.astype(dtype) for x in both)
            if bias in params:
                params[bias] = 0 * params[bias]  # in place of it stands what is folded
        return {**variables, "params": unflatten_dict(params), "folded": unflatten_dict(biases)}

    def intercept(call, args, kwargs, context):
        module = context.module
        if context.method_name != "__call__" or module.path not in norms | pairs.keys():
            return call(*args, **kwargs)
        if module.path in norms:
            return args[0]
        y = call(*args, **kwargs)
        return y + module.get_variable("folded", "bias").astype(y.dtype)

    def apply(variables, images, train):
        if train:
            raise ValueError("a network with folded BatchNorms is not for training")
        with nn.intercept_methods(intercept):
            return model.apply(variables, images, False)

    def adapt(variables, images, running_weight):
        raise ValueError("a network with folded BatchNorms has none to adapt")

    def init(key, shape):
        return variables_of(model.init(key, shape))

    return model._replace(init=init, apply=apply, adapt=adapt), variables_of


def _read(params, stats):
    return (params, ("scale", "bias")), (stats, ("mean", "var"))


def _pairs(model, shape):
    """{path of a convolution: (path of the BatchNorm that alone reads it, the type that both compute in)},
    found in the network's program."""

    def mark(call, args, kwargs, context):
        module = context.module
        if context.method_name == "__call__" and isinstance(module, BatchNorm):
            return call(checkpoint_name(args[0], _mark("norm", module)), *args[1:], **kwargs)
        y = call(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(module, nn.Conv):
            return checkpoint_name(y, _mark("conv", module))
        return y

    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), (1, *shape)))
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    with nn.intercept_methods(mark):
        program = jax.make_jaxpr(lambda v, x: model.apply(v, x, False)[0])(variables, images).jaxpr
    uses, calls = Counter(map(id, program.outvars)), Counter()
    convs, pairs = {}, {}
    for equation in program.eqns:
        uses.update(map(id, equation.invars))
    for equation in program.eqns:
        if equation.primitive.name == "name":
            kind, *path = equation.params["name"].split("/")
            calls[tuple(path)] += 1
            read = id(equation.invars[0])
            if kind == "conv":
                convs[id(equation.outvars[0])] = tuple(path)
            elif read in convs and uses[read] == 1:
                pairs[convs[read]] = tuple(path), equation.invars[0].aval.dtype
    # A layer that is called twice has one kernel, and may be followed by two norms.
    return {conv: pair for conv, pair in pairs.items() if calls[conv] == calls[pair[0]] == 1}


def _mark(kind, module):
    return "/".join((kind, *module.path))
