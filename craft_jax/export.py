"""`python -m craft_jax.export DIR`: see craft_jax.runs.export."""

import sys

from craft_jax.runs.export import export, main

__all__ = ["export", "main"]

if __name__ == "__main__":
    sys.exit(main())
