"""What was found by going through all of a data set, kept for the next process.

It lies in $XDG_CACHE_HOME/craft_jax, or below ~/.cache. Delete it at any time.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from craft_jax import files
from craft_jax.errors import CheckpointError


def place(*names: str) -> Path | None:
    """A path in the cache; None where there is no home."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return base.joinpath("craft_jax", *names)


def found(key: str, look: Callable[[], Any]) -> Any:
    """look(), or what it returned for this key in an earlier process.

    Args:
      key: a SHA-256 in hex, of all that the answer depends on.
      look: returns what JSON can hold.
    """
    path = place("surveys", f"{key}.json")
    try:
        if path:
            return files.read_json(path)["found"]
    except (CheckpointError, KeyError, TypeError):  # not there, or damaged
        pass
    answer = look()
    try:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, {"found": answer})
    except (OSError, CheckpointError) as error:
        print(f"note: what was found in the data is not kept for the next time: {error}", file=sys.stderr)
    return answer
