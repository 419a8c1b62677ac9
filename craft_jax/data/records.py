"""What is known of a data set, as it is stored beside a run and in its result."""

from typing import Any, NotRequired, TypedDict

from craft_jax.data import names
from craft_jax.data.dataset import Dataset


class DataRecord(TypedDict):
    """What is known of a data set: DIR/dataset.json, and "data" in results; JSON as it is.

    Attributes:
      name: what `config.data.name` says.
      num_classes: K.
      classes: what they are called, by their numbers where the data has no names. Records of older versions
        lack it: see `class_names`.
      input_shape: [H, W, 3].
      mean, std: per channel in [0, 1], three each; what the networks normalise with.
      train_examples, test_examples, validation_examples: how many images are trained on, are in the test set,
        and are held out. Records of older versions with images held out lack the second: see `current`.
      fingerprint, source_fingerprint: of what is used, and of all that the loader returned; see `Dataset`.
        Records of older versions lack the second.
      cue: {"kind", "correlation"} of the spurious cue that the images carry; absent without.
    """

    name: str
    num_classes: int
    classes: NotRequired[list[str]]
    input_shape: list[int]
    mean: list[float]
    std: list[float]
    train_examples: int
    test_examples: NotRequired[int]
    validation_examples: int
    fingerprint: str
    source_fingerprint: str
    cue: NotRequired[dict[str, Any]]


def record(dataset: Dataset) -> DataRecord:
    """The record of a data set."""
    cue = dataset.cue
    return {
        "name": dataset.name,
        "num_classes": dataset.num_classes,
        "classes": [dataset.class_name(label) for label in range(dataset.num_classes)],
        "input_shape": [int(side) for side in dataset.train_images.shape[1:]],
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "train_examples": len(dataset.train_images),
        "test_examples": len(dataset.test_images),
        "validation_examples": len(dataset.validation_images),
        "fingerprint": dataset.fingerprint,
        "source_fingerprint": dataset.source_fingerprint,
        **({"cue": {"kind": cue.kind, "correlation": cue.correlation}} if cue else {}),
    }


def current(stored: dict[str, Any]) -> DataRecord:
    """A stored record as this version writes it.

    Older versions held images out in place of the test set: their "evaluation_split" says so, and what they
    call "test_examples" is then how many.
    """
    if "evaluation_split" not in stored:
        return stored
    rest = {key: value for key, value in stored.items() if key not in ("evaluation_split", "test_examples")}
    if stored["evaluation_split"] == "validation":
        return rest | {"validation_examples": stored["test_examples"]}
    return rest | {"test_examples": stored["test_examples"], "validation_examples": 0}


def class_names(stored: dict[str, Any]) -> tuple[str, ...]:
    """What the K classes of a stored record are called; of an older version's, what they are known to be."""
    known = names.KNOWN.get(stored.get("name"), ())
    count = stored["num_classes"]
    usual = known if len(known) == count else map(str, range(count))
    return tuple(stored.get("classes", usual))
