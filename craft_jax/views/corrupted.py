"""The corrupted views of a batch, without control flow: a GPU never waits for the host to choose a branch.

A vmapped `lax.switch` runs every branch, and one in a loop copies its index to the host at every turn. So
the images of a view are dealt out to the corruptions as cards are: shuffled, then the first ones to the
first, the next to the second; every corruption runs once, on its hand from all views together. Hands have a
fixed size. Where the images do not divide evenly, they are rounded up and slots left empty at random, so
that every image is still equally likely to get each corruption and severity.

Lanes are equal parts of the batch that are dealt to apart from each other: each device deals those it holds,
and no value depends on how many devices there are.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from craft_jax import corruptions
from craft_jax.mesh import on_each_device


def corrupted(
    view_keys: Key[Array, " M"],
    images: Float[Array, "B H W 3"],
    names: Sequence[str],
    severities: Sequence[int],
    lanes: int,
    mesh: Mesh,
) -> Float[Array, "B M H W 3"]:
    """The corrupted views: a corruption and a severity drawn for every image of every view.

    Args:
      view_keys: one a view; a view depends on its own alone.
      images: float32 in [0, 1], sharded over the mesh's "data" axis.
      names: the corruptions to draw from.
      severities: the severities to draw from, 1 to 5.
      lanes: divides B, and is a multiple of the number of devices.
      mesh: a mesh with the one axis "data".
    Returns:
      float32 in [0, 1], multiples of 1/255.
    """
    batch, shape = images.shape[0], images.shape[1:]
    table = hands(names, severities, shape, batch // lanes)

    def local(key_data, numbers, rows):
        keys = jax.random.wrap_key_data(key_data)
        keys = jax.vmap(lambda number: jax.vmap(lambda key: jax.random.fold_in(key, number))(keys))(numbers)
        dealt = jax.vmap(jax.vmap(functools.partial(deal, table)))(keys)  # leaves (lanes, M, slots)
        slots = jax.vmap(lambda images, image: images[image])(rows, dealt.image)
        played = jnp.concatenate([_play(hand, slots, dealt) for hand in table.hands], axis=2)
        views = jax.vmap(jax.vmap(lambda slots, slot: slots[slot]))(played, dealt.slot)
        return jnp.moveaxis(views, 1, 2)  # (lanes, images of a lane, M, H, W, 3)

    rows = images.reshape(lanes, batch // lanes, *shape)
    views = on_each_device(local, view_keys, rows, mesh)
    return views.reshape(batch, len(view_keys), *shape)


class Hand(NamedTuple):
    """Consecutive slots of one corruption whose severities share a program: names, numbers and a slice."""

    name: str
    group: tuple[int, ...]
    severities: tuple[int, ...]
    slots: slice


class Hands(NamedTuple):
    """How a lane of one view is dealt out; static.

    Attributes:
      hands: a Hand each.
      bounds: one more than slots; slot s is used where a number u, uniform in 0..unit - 1, added to bounds[s]
        and bounds[s + 1] gives other multiples of `unit`; so with chance (bounds[s + 1] - bounds[s]) / unit.
      unit: see there; it and a slot's step stay below 2^30.
      count: how many images there are.
    """

    hands: tuple[Hand, ...]
    bounds: Int[np.ndarray, " edges"]
    unit: int
    count: int


def hands(names: Sequence[str], severities: Sequence[int], shape: Sequence[int], count: int) -> Hands:
    """The Hands of `count` images of a shape, (H, W, 3), that decides which severities share a program.

    A hand with a share p of all pairs (corruption, severity) has ceil(count p) slots, each used with the
    same chance, count p in all. Systematic sampling uses exactly `count` slots, whatever the shares.
    """
    groups = [
        (name, group, tuple(s for s in group if s in severities))
        for name in names
        for group in corruptions.programs(name, shape)
    ]
    groups = [(name, group, own) for name, group, own in groups if own]
    pairs = len(names) * len(severities)
    sizes = [-(-count * len(own) // pairs) for _, _, own in groups]
    whole = math.lcm(*sizes)
    weights = [count * len(own) * (whole // size) for (_, _, own), size in zip(groups, sizes, strict=True)]
    bounds = np.concatenate([[0], np.cumsum(np.repeat(weights, sizes))])
    ends = np.cumsum(sizes)
    dealt = [
        Hand(name, group, own, slice(int(end - size), int(end)))
        for (name, group, own), size, end in zip(groups, sizes, ends, strict=True)
    ]
    return Hands(tuple(dealt), bounds, pairs * whole, count)


class Dealt(NamedTuple):
    """One lane of one view, dealt out.

    Attributes:
      image: which image of the lane a slot has; of an empty slot, any.
      severity: one of its hand's.
      key: of the corruption's own draws.
      slot: where an image went.
    """

    image: Int[Array, " slots"]
    severity: Int[Array, " slots"]
    key: Key[Array, " slots"]
    slot: Int[Array, " images"]


def deal(table: Hands, key: Key[Array, ""]) -> Dealt:
    """Deal a lane of one view out, by a key of its own."""
    order_key, empty_key, severity_key, own_key = jax.random.split(key, 4)
    count, slots = table.count, len(table.bounds) - 1
    order = jax.random.permutation(order_key, count)
    first = jax.random.randint(empty_key, (), 0, table.unit)
    # Below the unit first, then in int32 whatever the size of the batch.
    step, rest = np.diff(table.bounds).astype(np.int32), (table.bounds[:-1] % table.unit).astype(np.int32)
    used = (rest + first) % table.unit + step >= table.unit
    rank = jnp.cumsum(used) - 1
    image = jnp.where(used, order[jnp.clip(rank, 0, count - 1)], 0)
    slot = jnp.zeros(count, jnp.int32).at[jnp.where(used, image, count)].set(np.arange(slots), mode="drop")
    return Dealt(image, _severities(table, severity_key, slots), jax.random.split(own_key, slots), slot)


def _severities(table, key, slots):
    """(slots,) int32, each uniform over the severities of its hand."""
    counts = np.concatenate([np.full(h.slots.stop - h.slots.start, len(h.severities)) for h in table.hands])
    drawn = jax.random.randint(key, (slots,), 0, jnp.asarray(counts, jnp.int32))
    own = np.zeros((slots, counts.max()), np.int32)
    for hand in table.hands:
        own[hand.slots, : len(hand.severities)] = hand.severities
    return jnp.asarray(own)[np.arange(slots), drawn]


def _play(hand, images, dealt):
    """(lanes, M, slots, H, W, 3), of all hands -> the slots of one hand, corrupted."""
    mine = images[:, :, hand.slots]
    keys, severities = (x[:, :, hand.slots].reshape(-1) for x in (dealt.key, dealt.severity))
    flat = mine.reshape(-1, *mine.shape[3:])
    return corruptions.corrupt_each(keys, flat, hand.name, hand.group, severities).reshape(mine.shape)
