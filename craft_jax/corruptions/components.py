"""Connected components of a plane in a fixed number of rounds, so that a GPU never waits for the host.

Boruvka's algorithm on blocks of 2 x 2 pixels: any two pixels of a block touch, so that a block is in one
component. In a round every component that has a neighbour takes its least edge to one and joins it; the
others are done. Edges have distinct numbers, so that following these choices ends at two components that
chose each other. Each join is of two or more: of n components with a neighbour at most n / 2 have one
after the round. That bounds the rounds, and how many choices in a row there are to follow in each.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from craft_jax.corruptions.ops import once

_CHASE = 3  # steps along a path in one kernel: XLA for CPUs needs 30 s to compile the nest of 8


def components(plane: Bool[Array, "H W"]) -> Int[Array, "H W"]:
    """Component numbers of the set pixels of a plane, diagonal neighbours joined.

    Equal where a path of set pixels joins two; of a pixel that is not set, its block's.
    """
    height, width = plane.shape
    blocks = jnp.pad(plane, ((0, height % 2), (0, width % 2)))
    rows, columns = blocks.shape[0] // 2, blocks.shape[1] // 2
    blocks = blocks.reshape(rows, 2, columns, 2)
    labels = _join_blocks(rows, columns, _edges(blocks))
    return jnp.repeat(jnp.repeat(labels.reshape(rows, columns), 2, 0), 2, 1)[:height, :width]


# From a block to four of its neighbours: rows down, columns right. The other four are these backwards.
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


def _edges(blocks):
    """(4, R, C): whether a block's set pixels touch those of its neighbour in each of `_STEPS`."""
    upper, lower, left, right = (blocks[:, 0], blocks[:, 1], blocks[:, :, :, 0], blocks[:, :, :, 1])
    leaving = (right.any(1), lower.any(-1), blocks[:, 1, :, 1], blocks[:, 1, :, 0])
    entered = (left.any(1), upper.any(-1), blocks[:, 0, :, 0], blocks[:, 0, :, 1])
    moved = [_moved(plane, step, False) for plane, step in zip(entered, _STEPS, strict=True)]
    return jnp.stack(leaving) & jnp.stack(moved)


def _moved(plane, step, fill):
    """The plane (R, C) moved so that each place holds its neighbour `step` away, `fill` outside."""
    (rows, columns), (down, across) = plane.shape, step
    padded = jnp.pad(plane, 1, constant_values=fill)
    return padded[1 + down : 1 + down + rows, 1 + across : 1 + across + columns]


def _join_blocks(rows, columns, edges):
    """(R C,) labels of R x C blocks: numbers of blocks, equal where edges (4, R, C) join them."""
    labels = jnp.arange(rows * columns, dtype=jnp.int32)
    unjoined = rows * columns  # components with a neighbour, at most
    while unjoined > 1:
        parent = once(_neighbours(labels, edges))
        labels = once(_ends(parent, labels, unjoined - 2))
        unjoined //= 2
    return labels


def _neighbours(labels, edges):
    """(R C,): for each component, at its number, the one at the other end of its least edge, or itself."""
    (_, rows, columns), count = edges.shape, labels.size
    own = np.arange(count, dtype=np.int32)
    numbers = own.reshape(rows, columns) * 4 + np.arange(4, dtype=np.int32)[:, None, None]
    ends = np.array([down * columns + across for down, across in _STEPS], np.int32)
    none = 4 * count
    plane = labels.reshape(rows, columns)
    there = jnp.stack([_moved(plane, step, -1) for step in _STEPS])
    number = jnp.where(edges & (there != plane), numbers, none)
    backwards = [_moved(n, (-d, -a), none) for n, (d, a) in zip(number, _STEPS, strict=True)]
    least = jnp.minimum(number.min(0), jnp.stack(backwards).min(0)).ravel()
    chosen = jnp.full(count, none, jnp.int32).at[labels].min(least)
    block = jnp.minimum(chosen // 4, count - 1)
    end = jnp.minimum(block + jnp.asarray(ends)[chosen % 4], count - 1)
    return jnp.where(chosen == none, own, labels[block] + labels[end] - own)


def _ends(parent, labels, steps):
    """The lesser of the two components at which a path from each of `labels` ends, `steps` away at most."""
    jump, length = parent, 1
    while length * _CHASE < steps:
        jump, length = once(_follow(jump, jump, _CHASE)), length * (_CHASE + 1)
    ends = _follow(jump, labels, -(-steps // length))
    return jnp.minimum(ends, _follow(parent, ends, 1))


def _follow(parent, at, times):
    for _ in range(times):
        at = parent.at[at].get(mode="promise_in_bounds")
    return at
