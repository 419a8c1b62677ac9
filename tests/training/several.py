"""A configuration of the tests' own: a method on the tiny network and 72 digits of 16 pixels.

--config=tests/training/several.py:METHOD
"""

from craft_jax import models
from tests import conftest

models.REGISTRY["tiny"] = conftest.TINY


def get_config(method):
    """`conftest.small_config` for a command: 5 steps, of which every one is logged."""
    return conftest.small_config(
        method,
        **{
            "data.size": 16,
            "data.max_train": 80,
            "epochs": 1,  # 5 steps
            "eval.max_examples": 40,
            "eval.severities": (1, 5),
        },
    )
