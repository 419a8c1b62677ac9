"""What Orbax and TensorStore raise where they cannot read or write, as CheckpointErrors with a way out."""

import contextlib
import json
import re

from orbax.checkpoint import v1 as ocp

from craft_jax.errors import CheckpointDamaged, CheckpointError

# What is raised where a file is missing, cut short or garbled; TensorStore raises ValueErrors that begin so.
_DAMAGE = (
    FileNotFoundError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    KeyError,
    ocp.errors.InvalidLayoutError,
)
_DAMAGE_WORDS = (
    "DATA_LOSS",
    "NOT_FOUND",
    "OUT_OF_RANGE",
    "FAILED_PRECONDITION",
    "Error opening",
    "Error reading",
)

_ODD = (ValueError, TypeError, AttributeError, AssertionError, NotImplementedError)
_STATUS = re.compile(r"[A-Z_]{4,}: ")  # TensorStore's, which names what went wrong

DAMAGED = "damaged; move it away to go on from an earlier one"


@contextlib.contextmanager
def saving(directory):
    """Turn what Orbax and TensorStore raise where nothing can be written into a CheckpointError."""
    try:
        yield
    except (OSError, ValueError) as error:  # TensorStore's are ValueErrors
        raise CheckpointError(
            f"{directory}: a checkpoint cannot be written ({_cause(error)[1]}); the newest that is there is "
            "kept, and the same command goes on from it once this is put right"
        ) from error


@contextlib.contextmanager
def reading(place):
    """Turn what Orbax, TensorStore and JAX raise on reading `place` into a CheckpointError with the cause."""
    try:
        yield
    except Exception as error:
        cause, said = _cause(error)
        named = f"{type(cause).__name__}: {said}" if said else type(cause).__name__
        advice = _advice(cause, said)
        kind = CheckpointDamaged if advice == DAMAGED else CheckpointError
        raise kind(f"{place}: {advice} ({named})") from error


def _cause(error):
    """(the exception that was first, the first line of what it says)."""
    while error.__cause__:  # Orbax wraps; what went wrong is innermost
        error = error.__cause__
    return error, re.split(r"\n| \[tensorstore_spec=", str(error))[0]


def _advice(cause, said):
    """What went wrong in words, and the way out."""
    if isinstance(cause, PermissionError) or "PERMISSION_DENIED" in said:
        return "this user may not read it; give it the permission, or run as its owner"
    if isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in said:
        return "memory or open files ran out while loading it; free some and try again, it is untouched"
    odd = isinstance(cause, _ODD) and not _STATUS.match(said)  # a description that makes no sense
    if isinstance(cause, _DAMAGE) or said.startswith(_DAMAGE_WORDS) or odd:
        return DAMAGED
    return "cannot be read now; nothing says that it is damaged"
