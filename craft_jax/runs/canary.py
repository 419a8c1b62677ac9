"""Does this installation compute right sums? Asked before a run.

A jaxlib that sums wrongly raises no error: a run on it ends with a plausible, wrong result. `main` asks
before it trains or evaluates; who calls `train_and_evaluate` or `craft_jax.load` from Python asks himself.
"""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from craft_jax.errors import NumericsError

# Releases whose CPU backend drops terms of a sum (jax-ml/jax#39103) or can crash or hang in the same
# component (#39257, #40412). Other backends do not use it.
BAD_ON_CPU = ("0.10.2", "0.11.0")

_WAY_OUT = (
    "install another: bash launch/setup.sh makes a .venv that is tested, or "
    'pip install "jax==0.10.1" "jaxlib==0.10.1" (from Python 3.12 on, 0.12.0.1 is right too)'
)
_EPS = 1e-5


def check():
    """Check jaxlib's version and a few sums.

    Raises:
      NumericsError: jaxlib is known to be wrong on a CPU and is to compute on one, or a sum here is wrong.
    """
    version, backend = jaxlib.__version__, jax.default_backend()
    if backend == "cpu" and version in BAD_ON_CPU:
        raise NumericsError(
            f"jaxlib {version} is known to compute wrong sums on a CPU, or to crash; {_WAY_OUT}"
        )
    for name, error in {"sums of squares": _squares_error(), **_layer_errors()}.items():
        if not error < 1e-4:  # float32 leaves 1e-6; a NaN is no right sum either
            raise NumericsError(
                f"jaxlib {version} computes wrong {name} on this {backend} ({jax.devices()[0].device_kind}): "
                f"off by {error:.1e}; {_WAY_OUT}"
            )


# ---- the sum that jaxlib 0.10.2 gets wrong: of 32,769 rows it leaves terms of the last one out ----


@jax.jit
def _squares(rows):
    identity = jnp.eye(3)

    def square(row):
        return jnp.sum(jnp.dot(identity, row, precision=jax.lax.Precision.HIGHEST) ** 2)

    return jax.vmap(square)(rows)


def _squares_error():
    rows = np.zeros((32769, 3), np.float32)
    rows[:, 0] = np.arange(32769)
    expected = np.sum(rows.astype(np.float64) ** 2, axis=1)
    return float(np.max(np.abs(_squares(rows) - expected) / np.maximum(expected, 1)))


# ---- a layer of ours: a convolution and a normalisation over the batch, with their gradient ----


def _layer(kernel, images, weights):
    y = jax.lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    normalised = (y - jnp.mean(y, (0, 1, 2))) / jnp.sqrt(jnp.var(y, (0, 1, 2)) + _EPS)
    return jnp.sum(weights * normalised), normalised


_layer_gradients = jax.jit(jax.value_and_grad(_layer, argnums=(0, 1), has_aux=True))


def _layer_errors():
    rng = np.random.default_rng(0)
    shapes = (3, 3, 3, 5), (5, 11, 11, 3), (5, 9, 9, 5)  # no multiple of a vector's length among them
    kernel, images, weights = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    (_, normalised), gradients = _layer_gradients(kernel, images, weights)
    references = _layer_in_numpy(*(x.astype(np.float64) for x in (kernel, images, weights)))
    names = "normalised convolutions", "gradients of a kernel", "gradients of a convolution's images"
    found = zip(names, (normalised, *gradients), references, strict=True)
    return {name: float(np.max(np.abs(x - y)) / np.max(np.abs(y))) for name, x, y in found}


def _layer_in_numpy(kernel, images, weights):
    """(normalised, gradient of the kernel, gradient of the images), tap by tap."""
    side, count = weights.shape[1], weights[..., 0].size
    taps = [(i, j) for i in range(3) for j in range(3)]
    seen = {(i, j): images[:, i : i + side, j : j + side].reshape(count, -1) for i, j in taps}
    y = sum(seen[tap] @ kernel[tap] for tap in taps)
    deviation = np.sqrt(y.var(0) + _EPS)
    normalised, w = (y - y.mean(0)) / deviation, weights.reshape(count, -1)
    # y moves its batch's mean and variance too.
    from_y = (w - w.mean(0) - normalised * np.mean(w * normalised, axis=0)) / deviation
    of_kernel = np.stack([seen[tap].T @ from_y for tap in taps]).reshape(kernel.shape)
    of_images = np.zeros_like(images)
    for i, j in taps:
        of_images[:, i : i + side, j : j + side] += (from_y @ kernel[i, j].T).reshape(-1, side, side, 3)
    return normalised.reshape(weights.shape), of_kernel, of_images
