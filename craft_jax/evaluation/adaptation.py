"""Test-time adaptation: a student that adapts itself to the test images, a batch at a time, without labels.

batch_norm    BatchNorm's statistics are those of the batch mixed with the running ones, which count as N
              images: weight N / (N + n) for a batch of n (Schneider et al. 2020, section 3)
tent          BatchNorm's statistics are the batch's; after each batch one step of Adam, without weight decay,
              on BatchNorm's scales and biases down the gradient of the mean entropy of the predictions (Wang
              et al. 2021, section 3). A batch is predicted before its step, which so serves later batches

Figures then depend on which images share a batch, how many and, with tent, in which order. All of that is
fixed: images are taken in one order, the same for every set of as many; each set of images (clean, and each
corruption and severity) is met by a student fresh from its checkpoint. The last batch is filled up to a whole
one with the first images of the order, whose predictions there are not counted: so no image is judged by
statistics of fewer than the others, and no set compiles a program of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8
from ml_collections import ConfigDict

from craft_jax import data, models
from craft_jax.errors import ConfigError
from craft_jax.evaluation.images import shown
from craft_jax.mesh import replicated_on

# The keys of eval.* that each kind reads.
READS = {
    "none": (),
    "batch_norm": ("adaptation_batch_size", "adaptation_prior"),
    "tent": ("adaptation_batch_size", "adaptation_learning_rate"),
}
KEYS = ("adaptation_batch_size", "adaptation_prior", "adaptation_learning_rate")
_ORDER_SEED = 20_261  # of the order of images; never config.seed


class AdaptationRecord(TypedDict):
    """What a result says of how the student was adapted.

    Keys:
      kind: "batch_norm" or "tent".
      settings: {key: value} of the eval.* keys that it reads.
    """

    kind: str
    settings: dict[str, float | int]


class Adapter(NamedTuple):
    """A network that adapts itself.

    Attributes:
      begin: variables -> its state before the first batch of a set.
      predict: (state, images in [0, 1]) -> (logits of this batch, state for the next), compiled.
    """

    begin: Callable[[Any], Any]
    predict: Callable[[Any, Float[Array, "B H W 3"]], tuple[Float[Array, "B K"], Any]]


def text(found: AdaptationRecord) -> str:
    """An AdaptationRecord in words: "tent (batch_size 200, learning_rate 0.001)"."""
    settings = (f"{key.removeprefix('adaptation_')} {value:g}" for key, value in found["settings"].items())
    return f"{found['kind']} ({', '.join(settings)})"


def record(config: ConfigDict) -> AdaptationRecord | None:
    """The AdaptationRecord of `eval.adaptation`; None where it is "none"."""
    kind = config.eval.adaptation
    if kind == "none":
        return None
    return {"kind": kind, "settings": {key: config.eval[key] for key in READS[kind]}}


def check(config: ConfigDict, name: str, variables: dict[str, Any]) -> None:
    """Refuse to adapt a network that has nothing to adapt.

    Args:
      config: reads eval.adaptation.
      name: the network's.
      variables: its own.
    Raises:
      ConfigError: it is to be adapted, and has no BatchNorm.
    """
    if config.eval.adaptation != "none" and not variables.get("batch_stats"):
        raise ConfigError(
            f"config.eval.adaptation: {config.eval.adaptation!r} adapts BatchNorm, and {name} has none; "
            "allowed: 'none'"
        )


def make(config: ConfigDict, model: models.Model, mesh: Mesh) -> Adapter:
    """The Adapter of a network, its logits and state on every device of the mesh.

    Args:
      config: reads eval.adaptation, not "none", and its keys.
      model: the network.
      mesh: a mesh with the one axis "data".
    """
    whole = replicated_on(mesh)
    if config.eval.adaptation == "batch_norm":
        prior = config.eval.adaptation_prior

        def predict(variables, images):
            outputs, _ = model.adapt(variables, images, prior / (prior + len(images)))
            return outputs.logits, variables

        return Adapter(lambda variables: variables, jax.jit(predict, out_shardings=whole))
    optimizer = optax.adam(config.eval.adaptation_learning_rate)
    step = jax.jit(lambda state, images: tent_step(model, optimizer, state, images), out_shardings=whole)
    return Adapter(lambda variables: (variables, optimizer.init(norms(variables))), step)


def tent_step(
    model: models.Model, optimizer: Any, state: Any, images: Float[Array, "B H W 3"]
) -> tuple[Float[Array, "B K"], Any]:
    """Tent's step: the logits of a batch, then a step on BatchNorm's scales and biases.

    Args:
      model, optimizer: the network, and an optax transformation.
      state: (variables, state of the optimizer over `norms`).
      images: float32 in [0, 1].
    Returns:
      (logits before the step, the new state).
    """
    variables, moments = state
    trained = norms(variables)

    def loss(trained):
        parameters = _replaced(variables["params"], trained)
        outputs, _ = model.adapt({**variables, "params": parameters}, images, 0.0)
        return jnp.mean(entropy(outputs.logits)), outputs.logits

    (_, logits), gradient = jax.value_and_grad(loss, has_aux=True)(trained)
    updates, moments = optimizer.update(gradient, moments)
    trained = optax.apply_updates(trained, updates)
    return logits, ({**variables, "params": _replaced(variables["params"], trained)}, moments)


def entropy(logits: Float[Array, "B K"]) -> Float[Array, " B"]:
    """The entropy of the softmax of each row, in nats."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def norms(variables: dict[str, Any]) -> dict[str, Any]:
    """Those of a network's parameters that are BatchNorm's: of the modules that have running statistics."""
    return _norms(variables["params"], variables["batch_stats"])


def _norms(parameters, statistics):
    if not any(isinstance(inner, dict) for inner in statistics.values()):
        return parameters  # of a BatchNorm: {"scale", "bias"}
    return {name: _norms(parameters[name], inner) for name, inner in statistics.items()}


def _replaced(parameters, trained):
    """`parameters` with the leaves that are in `trained` as they are there."""
    return parameters | {
        name: _replaced(parameters[name], inner) if isinstance(inner, dict) else inner
        for name, inner in trained.items()
    }


def batches(count: int, size: int) -> Int[np.ndarray, "_ B"]:
    """Which images of `count` share a batch: a row each, the last filled up with the first row's."""
    order = np.random.RandomState(_ORDER_SEED).permutation(count)  # a stream that NumPy never changes
    size = min(size, count)
    return np.concatenate([order, order[: -count % size]]).reshape(-1, size)


def logits_of(
    adapter: Adapter,
    networks: Sequence[tuple[Callable[..., Any], Any]],
    images: UInt8[data.Images, "N H W 3"],
    batch_size: int,
    mesh: Mesh,
    name: str | None = None,
    severity: int | None = None,
) -> list[Float[np.ndarray, "N K"]]:
    """As `evaluate.logits_of`, but the first network adapts itself; the others stay as they are.

    Args:
      adapter: of the first network.
      networks: (predict, variables) each; of the first the variables alone are used.
      images, mesh, name, severity: as there.
      batch_size: images a batch, over all devices.
    Returns:
      float32, one a network, in the order of `images`.
    """
    rows = batches(len(images), batch_size)
    (_, variables), *others = networks
    state, collected = adapter.begin(variables), []
    for seen in shown(images, rows, mesh, name, severity):
        logits, state = adapter.predict(state, seen)
        collected.append([logits, *(predict(variables, seen) for predict, variables in others)])
    place = np.argsort(rows.ravel()[: len(images)])
    joined = (np.concatenate([np.asarray(x) for x in logits]) for logits in zip(*collected, strict=True))
    return [logits[place] for logits in joined]
