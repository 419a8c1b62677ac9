"""A run done again from what its results.json holds: what came out the same, hash by hash."""

from typing import NamedTuple

from craft_jax.report.summary import number

# What must be the same for a run to be the same, in the order in which one thing follows from the others.
_HASHES = {
    "training images": ("data", "fingerprint"),
    "all images": ("data", "source_fingerprint"),
    "teacher's parameters": ("teacher", "params_sha256"),
    "start's parameters": ("started_from", "params_sha256"),
    "draws": ("draws",),
    "student's parameters": ("params_sha256",),
}
# What explains a difference.
_CIRCUMSTANCES = ("commit", "versions", "device", "processor", "arithmetic")
# Neither measured nor an input: of the clock, of this machine, or of the file.
_NOT_COMPARED = (
    *("timings", "cost", "notes", "date", "resumed_from", "sha256", "config", "data"),
    *_CIRCUMSTANCES,
    *("teacher", "started_from", "draws", "params_sha256"),  # among the hashes
)


class Reproduction(NamedTuple):
    """Whether a run came out as recorded.

    Attributes:
      lines: what is to be told, a line a fact.
      same: whether every hash and every figure is the same.
    """

    lines: list[str]
    same: bool


def compare(recorded, result):
    """A Reproduction of two contents of a results.json: the one recorded, and the one of now.

    A hash that an older version did not record is said to be unknown, and is no difference.
    """
    lines, faults = [], 0
    for what, path in _HASHES.items():
        then, now = _at(recorded, path), _at(result, path)
        if then is None and now is None:
            continue
        same = then == now
        faults += not same and then is not None
        told = "the same" if same else "unknown then" if then is None else f"{then[:12]} then, OTHER"
        lines.append(f"{what + ':':22}{str(now)[:12]}  {told}")
    figures = [key for key in recorded if key in result and key not in _NOT_COMPARED]
    other = [key for key in figures if recorded[key] != result[key]]
    faults += bool(other)
    for key in ("clean_accuracy", "robust_accuracy"):
        if key in other and isinstance(recorded[key], float):
            lines.append(f"{key + ':':22}{number(result[key])}  {number(recorded[key])} then")
    told = f"OTHER: {', '.join(other)}" if other else f"all {len(figures)} entries the same"
    lines.append(f"{'figures:':22}{told}")
    for key in _CIRCUMSTANCES:
        if recorded.get(key) != result.get(key):
            lines.append(f"{key + ':':22}{result.get(key)}; {recorded.get(key)} then")
    lines.append(
        "the same run, bit for bit" if not faults else f"NOT the same run: {faults} of the above differ"
    )
    return Reproduction(lines, not faults)


def _at(tree, path):
    for key in path:
        tree = (tree or {}).get(key)
    return tree
