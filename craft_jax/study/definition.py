"""What a study file says: arms, seeds, and which comparisons were planned before anything ran."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Arm:
    """One of what is compared: a configuration, but for the seed.

    Attributes:
      config: FILE[:PRESET] as `--config` takes it; the file may be a user's own.
      overrides: {dotted key: value} on top, a value of the type of its key's default.
      seeds: which seeds to run; () for the study's.
    """

    config: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()


class Comparison(NamedTuple):
    """A planned comparison: the mean over seeds of `arm` less `baseline`.

    `metric` is one of craft_jax.evaluation.robustness.METRICS.
    """

    arm: str
    baseline: str
    metric: str


@dataclass(frozen=True)
class Study:
    """Arms times seeds.

    Attributes:
      arms: {name: Arm}, in the order in which they run and are shown; a name is a directory's.
      seeds: of every arm that has none of its own; run in this order.
      baseline: the arm that all others are shown against, without a test.
      comparisons: those that were planned; only they are tested, and corrected together (Holm).
      evaluations: {name: {dotted key: value}}: each finished student is evaluated once more under these
        eval.* keys, of other corruptions, say, or adapting itself; never tested, reported apart.
    """

    arms: Mapping[str, Arm]
    seeds: tuple[int, ...]
    baseline: str
    comparisons: tuple[Comparison, ...] = ()
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def grid(name: str, arm: Arm, **axes: Mapping[str, Any]) -> dict[str, Arm]:
    """One arm for each combination of values: the product of the axes, as arms of a study.

    Args:
      name: what the arms' names begin with.
      arm: what they have in common.
      axes: {key, its dots written as two underscores: {label: value}}.

    >>> arms = grid("kd", Arm("configs/kd.py"), kd__weight={"w1": 1.0, "w4": 4.0})
    >>> {name: dict(arm.overrides) for name, arm in arms.items()}
    {'kd_w1': {'kd.weight': 1.0}, 'kd_w4': {'kd.weight': 4.0}}
    """
    arms = {}
    keys = [key.replace("__", ".") for key in axes]
    for combination in itertools.product(*(axis.items() for axis in axes.values())):
        label = "_".join([name, *(text for text, _ in combination)])
        values = dict(zip(keys, (value for _, value in combination), strict=True))
        arms[label] = Arm(arm.config, {**arm.overrides, **values}, arm.seeds)
    return arms
