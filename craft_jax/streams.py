"""Named random streams: fold_in(fold_in(key(seed), step), stream), never a carried key.

So a resumed run repeats exactly, and a method's extra draws never change what another method sees.
"""

import jax
from jaxtyping import Array, Int, Key

# Names everything random in training and evaluation; a change of any draw changes it (tests/golden.py), and
# results of different draws are not of one study.
DRAWS = "f7a640ed43bb"

# The numbers are part of what a seed means: append, never renumber.
DATA_ORDER, CROPS, CORRUPTIONS, INIT, METHOD_INIT, METHOD = range(6)


def stream(seed: int, step: int | Int[Array, ""], name: int) -> Key[Array, ""]:
    """The key of one stream at one step (or epoch, for DATA_ORDER).

    Args:
      seed: an integer in [0, 2**31).
      step: at least 0; may be traced.
      name: one of this module's constants.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), name)
