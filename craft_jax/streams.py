"""Named random streams: fold_in(fold_in(key(seed), step), stream), never a carried key.

So a resumed run repeats exactly, and a method's extra draws never change what another method sees.
"""

import jax

# Names everything random in training and evaluation; a change of any draw changes it (tests/golden.py), and
# results of different draws are not of one study.
DRAWS = "unset"

# The numbers are part of what a seed means: append, never renumber.
DATA_ORDER, CROPS, CORRUPTIONS, INIT, METHOD_INIT, METHOD = range(6)


def stream(seed, step, name):
    """The key of one stream at one step (or epoch, for DATA_ORDER): typed, scalar.

    Args:
      seed: an integer in [0, 2**31).
      step: an integer or an int32 scalar array.
      name: one of this module's constants.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), name)
