"""What a compiled GPU program does in one run, counted in its text (`compiled.as_text()`).

A launch is one instruction of the entry computation, or of a body that it calls, that makes the GPU do
something: a fusion, a custom call (cuDNN, cuBLAS, CUB: one each, though the library may start several
kernels), a copy, a convolution, dot, reduce, sort, scatter, random numbers, and whatever else XLA left
outside a fusion. None are those that only name memory (`_FREE`), the second half of an asynchronous pair
(`copy-done`), and collectives, which are counted apart. What is inside a fusion or a reduction is part of
its kernel.

A loop's body counts as often as it turns, where XLA knows how often (`known_trip_count`: the runtime then
evaluates no condition), and nested loops multiply. A loop of unknown length counts as one turn, condition
included, so `launches` is then a lower bound. Of a conditional the branch with the most launches counts.
The bytes of a collective are those of what it gives on each device. Command buffers (CUDA graphs), which
submit many launches at once, are set aside: kernels are counted.
"""

import math
import re
from collections import Counter
from typing import Any, NamedTuple

_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency"),
    *("opt-barrier", "domain"),
}
_COLLECTIVES = {
    *("all-reduce", "all-gather", "all-to-all", "ragged-all-to-all", "reduce-scatter"),
    *("collective-permute", "collective-broadcast"),
}


class Counts(NamedTuple):
    """What one run of a program does.

    Attributes:
      kinds: Counter of launches by opcode, custom calls by their target.
      collectives: how many are run; a start and its done are one.
      collective_bytes: of what they give on each device, together.
      collective_kinds: Counter of collectives by opcode.
      conditionals: how many stand in the program.
      waits: how many are run: each copies its index to the host and blocks until it is there.
      loops: how many stand in the program.
      unknown_loops: how many of these have no known trip count; each turn waits for the host too.
    """

    kinds: Counter
    collectives: int = 0
    conditionals: int = 0
    waits: int = 0
    loops: int = 0
    unknown_loops: int = 0
    collective_bytes: int = 0
    collective_kinds: Any = Counter()  # noqa: RUF012 (no Counter is changed in place here)

    @property
    def launches(self):
        return self.kinds.total()

    def plus(self, other, turns=1):
        """These counts and `turns` runs of `other`; what stands in the program stands there once."""
        return Counts(
            _added(self.kinds, other.kinds, turns),
            self.collectives + turns * other.collectives,
            self.conditionals + other.conditionals,
            self.waits + turns * other.waits,
            self.loops + other.loops,
            self.unknown_loops + other.unknown_loops,
            self.collective_bytes + turns * other.collective_bytes,
            _added(self.collective_kinds, other.collective_kinds, turns),
        )


def _added(one, other, turns):
    return one + Counter({kind: turns * count for kind, count in other.items()})


class Instruction(NamedTuple):
    opcode: str
    text: str  # what follows the opcode: operands and attributes
    type: str  # of what it gives


def count(text):
    """The Counts of a program's text, from its ENTRY.

    Raises:
      ValueError: the text has no ENTRY computation.
    """
    computations, entry = parse(text)
    if entry is None:
        raise ValueError("no ENTRY computation: not the text of an HLO module")
    return _run(computations, entry)


def parse(text):
    """({name of a computation: its Instructions}, the name of the ENTRY or None)."""
    computations, entry, current = {}, None, None
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$", line):
            current = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif current is not None and (found := re.match(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*)", line)):
            current.append(_instruction(found[1]))
    return computations, entry


def _instruction(text):
    """`TYPE opcode(...), ...`; the type of a tuple is itself in parentheses."""
    end = 0
    if text.startswith("("):
        depth = 0
        for end, character in enumerate(text):  # noqa: B007, the place is what is wanted
            depth += (character == "(") - (character == ")")
            if not depth:
                break
    end = text.index(" ", end)
    opcode, _, rest = text[end + 1 :].partition("(")
    return Instruction(opcode, rest, text[:end])


def _run(computations, name):
    total = Counts(Counter())
    for instruction in computations[name]:
        total = total.plus(_one(computations, instruction))
    return total


def _one(computations, instruction):
    """The Counts of one instruction, with all that it calls."""
    opcode, text, type_ = instruction
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
        return Counts(Counter())
    starts, opcode = opcode.endswith("-start"), opcode.removesuffix("-start")
    if opcode in _COLLECTIVES:
        # What an asynchronous one begins with holds its operands too, but of an all-reduce.
        given = _bytes(type_, halves=starts and opcode != "all-reduce")
        return Counts(Counter(), 1, collective_bytes=given, collective_kinds=Counter({opcode: 1}))
    if opcode in ("call", "async"):
        return _run(computations, _called(text, "to_apply", "calls")[0])
    if opcode == "while":
        return _loop(computations, text)
    if opcode == "conditional":
        names = _called(text, "branch_computations", "true_computation", "false_computation")
        branches = [_run(computations, name) for name in names]
        most = max(branches, key=lambda branch: branch.launches)
        # All of the branches stand in the program, one of them runs.
        parts = {
            field: sum(getattr(branch, field) for branch in branches) for field in ("loops", "unknown_loops")
        }
        inside = sum(branch.conditionals for branch in branches)
        return most._replace(conditionals=1 + inside, waits=1 + most.waits, **parts)
    target = re.search(r'custom_call_target="([^"]*)"', text)
    return Counts(Counter({target[1] if target else opcode: 1}))


_WIDTHS = {"pred": 1, "bf16": 2}  # bytes; of the others the name says it


def _bytes(type_, halves):
    """Of all arrays of a type; of the second half of them where the first are operands."""
    arrays = re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", type_)
    each = [
        (_WIDTHS.get(kind) or int(kind.lstrip("fsuc")) // 8)
        * math.prod(map(int, filter(None, dims.split(","))))
        for kind, dims in arrays
    ]
    return sum(each[len(each) // 2 :] if halves else each)


def _loop(computations, text):
    body = _run(computations, _called(text, "body")[0])
    if turns := re.search(r'"known_trip_count":\{"n":"(\d+)"', text):
        return Counts(Counter(), loops=1).plus(body, int(turns[1]))
    condition = _run(computations, _called(text, "condition")[0])
    return Counts(Counter(), loops=1, unknown_loops=1).plus(condition).plus(body)


def _called(text, *attributes):
    """The computations that some attributes name, in order: `body=%b`, `branch_computations={%a, %b}`."""
    pattern = rf"\b(?:{'|'.join(attributes)})=(?:\{{([^}}]*)\}}|%?([\w.\-]+))"
    found: list[Any] = re.findall(pattern, text)
    return [name.strip().lstrip("%") for several, one in found for name in (one or several).split(",")]
