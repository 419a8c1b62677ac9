"""What the losses share: float32, safe unit vectors, and errors that say what was expected."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# What callers may give: arrays of either library, and numbers that may be traced.
AnyArray = Array | np.ndarray
Scalar = float | int | Float[Array, ""]


def float32(x: Float[AnyArray, "..."] | Scalar) -> Float[Array, "..."]:
    """`x` as float32, with its gradient."""
    return jnp.asarray(x).astype(jnp.float32)


def frozen(x: Float[AnyArray, "..."]) -> Float[Array, "..."]:
    """`x` as float32, without gradient: what comes from the teacher."""
    return jax.lax.stop_gradient(float32(x))


def product(equation: str, *operands: Float[AnyArray, "..."]) -> Float[Array, "..."]:
    """`einsum` in full float32: a GPU's default rounds the factors to TF32, 10 bits.

    Divided by a temperature of 0.07 that rounding would be off by about 0.01.
    """
    return jnp.einsum(equation, *operands, precision=jax.lax.Precision.HIGHEST)


def unit(x: Float[AnyArray, "*B D"]) -> Float[Array, "*B D"]:
    """x / |x| over the last axis, safe at zero.

    A zero vector stays zero, and there the gradient is that of the identity: finite and not dead.
    Scaling by max|x| first changes neither value nor gradient, since x / |x| does not depend on the
    length of x, but keeps the squares from overflow and underflow.
    """
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    x = x / jnp.where(scale > jnp.finfo(x.dtype).tiny, scale, 1)
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.where(square > 0, square, 1))


def centred(x: Float[AnyArray, "*B D"]) -> Float[Array, "*B D"]:
    """x less its mean over the last axis: exactly zero where all entries are equal.

    A float32 mean of equal numbers may be off by a bit, which a division by the length would blow up.
    """
    x = x - jax.lax.stop_gradient(x[..., :1])
    return x - jnp.mean(x, axis=-1, keepdims=True)


def flat(x: Float[AnyArray, "B ..."]) -> Float[Array, "B N"]:
    """One row an image."""
    return x.reshape(x.shape[0], -1)


def pool(h: Float[AnyArray, "B H W C"], size: tuple[int, int]) -> Float[Array, "B H2 W2 C"]:
    """Feature maps average-pooled to a smaller (height, width); as they are where they have it.

    Where sizes do not divide, windows overlap by a pixel (adaptive average pooling).
    """
    if h.shape[1:3] == size:
        return h
    rows, columns = _windows(h.shape[1], size[0]), _windows(h.shape[2], size[1])
    return product("bhwc,ph,qw->bpqc", h, rows, columns)


def pool_alike(
    a: Float[AnyArray, "B H1 W1 C1"], b: Float[AnyArray, "B H2 W2 C2"]
) -> tuple[Float[Array, "B H W C1"], Float[Array, "B H W C2"]]:
    """Two feature maps, the larger one average-pooled to the smaller one's size, side by side."""
    size = min(a.shape[1], b.shape[1]), min(a.shape[2], b.shape[2])
    return pool(a, size), pool(b, size)


def _windows(n: int, m: int) -> Float[np.ndarray, "{m} {n}"]:
    """The matrix that averages n values to m; window i is floor(i n/m) .. ceil((i+1)n/m)."""
    weights = np.zeros((m, n), np.float32)
    for i in range(m):
        start, stop = i * n // m, -(-(i + 1) * n // m)
        weights[i, start:stop] = 1 / (stop - start)
    return weights


def check_choice(name: str, value: str, allowed: Iterable[str]) -> None:
    """Raise ValueError, listing the allowed values, unless `value` is one of them."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, allowed))}")


def check_shapes(**arrays: tuple[AnyArray, str]) -> None:
    """Raise ValueError unless the shapes fit the named dimensions; one name has one size.

    `check_shapes(logits=(logits, "B K"), labels=(labels, "B"))`
    """
    sizes: dict[str, int] = {}
    fits = True
    for array, dims in arrays.values():
        shape, names = jnp.shape(array), dims.split()
        fits &= len(shape) == len(names)
        fits &= all(sizes.setdefault(n, size) == size for n, size in zip(names, shape, strict=False))
    if not fits:
        expected = ", ".join(f"{k} ({', '.join(v[1].split())})" for k, v in arrays.items())
        got = ", ".join(f"{k} {jnp.shape(v[0])}" for k, v in arrays.items())
        raise ValueError(f"shapes do not fit: expected {expected}; got {got}")


def check_stages(**stages: list | tuple) -> None:
    """Raise ValueError unless the sequences are equally long and not empty."""
    counts = {name: len(s) for name, s in stages.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        got = ", ".join(f"{name} has {n}" for name, n in counts.items())
        raise ValueError(f"expected the same number of stages, at least one; {got}")
