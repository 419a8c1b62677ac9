"""craft_jax: robust knowledge distillation in JAX and Flax."""

import importlib

__all__ = ["corruptions", "load", "losses", "models"]
__version__ = "0.1.0"


def __getattr__(name):
    """The names in `__all__`, imported when asked for: a command has its signals to take over before that."""
    if name == "load":
        return importlib.import_module("craft_jax.runs.predict").load
    if name in __all__:
        return importlib.import_module(f"craft_jax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
