"""Connected components of a plane in a fixed number of rounds, so that a GPU never waits for the host.

Boruvka's algorithm on blocks of 2 x 2 pixels: any two pixels of a block touch, so that a block is in one
component. In a round every component takes its least edge to another one and joins it. Edges have distinct
numbers, so that only two components can choose each other, the lesser stays, and of the components that
have a neighbour at most half are left: log2(blocks) rounds join all, whatever the shape.
"""

import jax
import jax.numpy as jnp
import numpy as np

_CHASE = 4  # steps along a path in one kernel; of more, XLA for CPUs takes minutes to compile the nest


def components(plane):
    """Component numbers of the set pixels of a plane, diagonal neighbours joined.

    Args:
      plane: (H, W) booleans.
    Returns:
      (H, W) int32, equal where a path of set pixels joins two; of a pixel that is not set, its block's.
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
    count = rows * columns
    own = np.arange(count, dtype=np.int32)
    numbers = own.reshape(rows, columns) * 4 + np.arange(4, dtype=np.int32)[:, None, None]
    ends = np.array([down * columns + across for down, across in _STEPS], np.int32)
    none = 4 * count

    def join(_, labels):
        plane = labels.reshape(rows, columns)
        there = jnp.stack([_moved(plane, step, -1) for step in _STEPS])
        number = jnp.where(edges & (there != plane), numbers, none)
        backwards = [_moved(n, (-d, -a), none) for n, (d, a) in zip(number, _STEPS, strict=True)]
        least = jnp.minimum(number.min(0), jnp.stack(backwards).min(0)).ravel()
        chosen = jnp.full(count, none, jnp.int32).at[labels].min(least)
        block = jnp.minimum(chosen // 4, count - 1)
        end = jnp.minimum(block + jnp.asarray(ends)[chosen % 4], count - 1)
        other = labels[block] + labels[end] - own
        parent = jnp.where(chosen == none, own, other)
        parent = jnp.where((parent[parent] == own) & (own < parent), own, parent)
        length = _CHASE
        while length < count:  # a path of as many components would be all of them
            parent, length = _follow(parent, parent), length * _CHASE
        return _follow(parent, labels)

    return jax.lax.fori_loop(0, max(count - 1, 1).bit_length(), join, jnp.asarray(own))


def _follow(parent, at):
    for _ in range(_CHASE):
        at = parent.at[at].get(mode="promise_in_bounds")
    return at
