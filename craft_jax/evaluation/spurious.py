"""Whether a network reads a spurious cue (`data.cue`): its accuracy without it, and against it.

The images of an evaluation carry the cue as in training. Two further sets, not corrupted, are the same images
without any cue and with that of another class each.
"""

from collections.abc import Iterator
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Bool, Int, UInt8

from craft_jax import data
from craft_jax.data import cues
from craft_jax.evaluation.robustness import Figures

ABSENT, REVERSED = "cue absent", "cue reversed"


class CueFigures(TypedDict):
    """What a result says of a cue; accuracies in percent, on images without corruption.

    Keys:
      as_in_training, absent, reversed: accuracies of the three sets.
      groups: {"own": K accuracies, "other": K}, of each class the images that carry its own cue as in
        training, and all of them with another class's; None of a group without images.
      examples: the same of how many images a group has.
      worst_group: the least accuracy of a group.
      worst: {"class", "cue" ("own" or "other")} of that group, the first of several.
    """

    as_in_training: float
    absent: float
    reversed: float
    groups: dict[str, list[float | None]]
    examples: dict[str, list[int]]
    worst_group: float
    worst: dict[str, int | str]


def sets(dataset: data.Dataset, split: str, count: int) -> Iterator[tuple[str, UInt8[np.ndarray, "N H W 3"]]]:
    """The two further sets of the first `count` images of a split: (what it is called, images)."""
    cue = dataset.cue
    plain, _, other = (array[:count] for array in cue.marks[split])
    yield ABSENT, plain
    yield REVERSED, cues.draw(cue.kind, plain, other, cue.num_classes)


def figures(
    cells: dict[Any, Figures],
    right: dict[str, Bool[np.ndarray, " N"]],
    labels: Int[np.ndarray, " N"],
    given: Int[np.ndarray, " N"],
    num_classes: int,
) -> CueFigures:
    """The CueFigures of one network.

    Args:
      cells: {set: its figures}, of "clean" and the two further sets.
      right: which images it classified right, of the same sets.
      labels: of the images.
      given: the class whose cue an image carries as in training.
      num_classes: K.
    """
    of_set = {"own": right["clean"], "other": right[REVERSED]}
    groups, examples = {"own": [], "other": []}, {"own": [], "other": []}
    for label in range(num_classes):
        members = {"own": (labels == label) & (given == label), "other": labels == label}
        for name, member in members.items():
            count = int(member.sum())
            examples[name].append(count)
            groups[name].append(100 * int(of_set[name][member].sum()) / count if count else None)
    least, name, label = min(
        (accuracy, name, label)
        for name, accuracies in groups.items()
        for label, accuracy in enumerate(accuracies)
        if accuracy is not None
    )
    return {
        "as_in_training": cells["clean"]["accuracy"],
        "absent": cells[ABSENT]["accuracy"],
        "reversed": cells[REVERSED]["accuracy"],
        "groups": groups,
        "examples": examples,
        "worst_group": least,
        "worst": {"class": label, "cue": name},
    }
