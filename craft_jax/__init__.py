"""craft_jax: robust knowledge distillation in JAX and Flax."""

from craft_jax import corruptions, losses, models
from craft_jax.runs.predict import load

__all__ = ["corruptions", "load", "losses", "models"]
__version__ = "0.1.0"
