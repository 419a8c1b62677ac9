"""What a configuration changes in configs/default.py: what a result is known by.

A key that comes later, and that a run leaves at its default, changes nothing of it.
"""

import functools
from pathlib import Path

from craft_jax.config import reader, tree

_DEFAULTS = Path(__file__).resolve().parents[2] / "configs" / "default.py"

# Keys that change no figure of a result, and the seed, which is told beside it.
_IRRELEVANT = (
    *("seed", "data.dir", "teacher.cache", "teacher.checkpoint", "compilation_cache"),
    *("data.streaming", "data.memory_gb", "data.workers"),
    *("eval.teacher", "eval.batch_size", "eval.clean_every_epochs", "eval.reference"),
)
_IRRELEVANT_SECTIONS = ("log.", "checkpoint.")


def is_place(key: str) -> bool:
    """Whether a dotted key changes no figure: where things lie, how often is logged, and the like."""
    return key in _IRRELEVANT or key.startswith(_IRRELEVANT_SECTIONS)


@functools.cache
def defaults():
    """{dotted key: value} of configs/default.py."""
    return tree.flatten(reader.load(str(_DEFAULTS)))


def of(config):
    """What a configuration changes in the defaults, less the seed and places: {dotted key: value}.

    Args:
      config: a ConfigDict, of this version or an older one (`tree.from_json`).
    """
    default, flat = defaults(), tree.flatten(config)
    return {
        key: flat[key]
        for key in sorted(flat)
        if not is_place(key)
        and (key != "eval.dir" or config.eval.source != "regenerated")
        and (key not in default or default[key] != flat[key])
    }
