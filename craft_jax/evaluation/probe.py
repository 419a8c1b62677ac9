"""A linear classifier on frozen features, for a network that comes without one."""

from typing import Any

import jax
import numpy as np
import scipy.optimize
from jaxtyping import Float, Int

from craft_jax import data, models
from craft_jax.evaluation import evaluate
from craft_jax.mesh import make_mesh, replicated_on

WEIGHT_DECAY = 1e-4  # of half the squared weights, on features of deviation 1
_ITERATIONS = 500


def with_head(
    model: models.Model, variables: dict[str, Any], dataset: data.Dataset, batch_size: int
) -> tuple[dict[str, Any], list[str]]:
    """A network's variables with a head fitted to the training images, without crops or flips; and notes.

    Args:
      model: the network, whose head is the dense layer "head" on `Outputs.pooled`.
      variables: {"params", "batch_stats"}, no "head" among the former.
      dataset: reads the training images and labels.
      batch_size: images a forward pass, at most.
    Returns:
      (variables, what a result should say of the fit: lines, none where it converged).
    """
    shape = (1, *dataset.train_images.shape[1:])
    abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), shape))["params"]["head"]
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract)
    whole = {**variables, "params": {**variables["params"], "head": blank}}
    predict, mesh = jax.jit(lambda v, x: model.apply(v, x, False)[0].pooled), make_mesh()
    network = (predict, jax.device_put(whole, replicated_on(mesh)))
    (features,) = evaluate.logits_of([network], dataset.train_images, batch_size, mesh)
    kernel, bias, fault = fit(features, dataset.train_labels, dataset.num_classes)
    params = {**variables["params"], "head": {"kernel": kernel, "bias": bias}}
    notes = [f"the linear probe did not converge: {fault}"] if fault else []
    return {**variables, "params": params}, notes


def fit(
    features: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], num_classes: int
) -> tuple[Float[np.ndarray, "D K"], Float[np.ndarray, " K"], str]:
    """Multinomial logistic regression by L-BFGS, in float64, on standardised features.

        minimise  mean_n CE(W f_n + b, y_n) + WEIGHT_DECAY/2 |W|^2,  f = (features - mean) / deviation

    Returns:
      (kernel, bias, fault): logits = features @ kernel + bias, float32, the standardisation folded in; and
      why L-BFGS stopped before it converged, "" where it did.
    """
    x = features.astype(np.float64)
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation == 0] = 1  # a feature that never moves tells nothing
    x = (x - mean) / deviation
    classes = np.eye(num_classes)[labels]
    size = x.shape[1]

    def objective(flat):
        kernel, bias = np.split(flat.reshape(size + 1, num_classes), [size])
        logits = x @ kernel + bias
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        error = (np.exp(log_p) - classes) / len(x)
        gradient = np.concatenate([x.T @ error + WEIGHT_DECAY * kernel, error.sum(0, keepdims=True)])
        loss = -(classes * log_p).sum() / len(x) + WEIGHT_DECAY / 2 * (kernel**2).sum()
        return loss, gradient.ravel()

    start = np.zeros((size + 1) * num_classes)
    options = {"maxiter": _ITERATIONS}
    found = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    kernel, bias = np.split(found.x.reshape(size + 1, num_classes), [size])
    kernel = kernel / deviation[:, None]
    fault = "" if found.success else f"{found.message} ({found.nit} iterations)"
    return kernel.astype(np.float32), (bias[0] - mean @ kernel).astype(np.float32), fault
