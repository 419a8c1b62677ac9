"""What a data set is once loaded: uint8 images with labels, and the numbers about them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from craft_jax.data import survey
from craft_jax.data.encoded import Encoded
from craft_jax.data.statistics import channel_statistics, fingerprint
from craft_jax.errors import DataError

Images = np.ndarray | Encoded  # (N, H, W, 3) uint8, in memory or in their files

MOST_CLASSES = 10**6  # each of which has its name in every record of a run

# Which training images are held out never depends on config.seed: tuning runs of every seed, and
# the teacher they share, must agree on what they have not seen.
VALIDATION_SEED = 20_240_517
# Likewise the images that data.max_train leaves; a seed of its own, or they would be those held out.
SUBSET_SEED = 20_240_518


class Source(NamedTuple):
    """What a loader returns, before the validation split.

    Attributes:
      train_images: (N, H, W, 3) uint8, in memory or `Encoded`; those of the test set alike.
      train_labels: (N,) integers in 0..num_classes - 1.
      test_images, test_labels: the same for the test set.
      num_classes: K.
      mean, std: per channel in [0, 1] where published; None to compute them from the training
        images.
      classes: names of the K classes; empty where the data has none.
    """

    train_images: Images
    train_labels: np.ndarray
    test_images: Images
    test_labels: np.ndarray
    num_classes: int
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    classes: tuple[str, ...] = ()


class Evaluated(NamedTuple):
    """The images of one split.

    Attributes:
      images: (N, H, W, 3) uint8.
      labels: (N,) int32.
      split: "test" or "validation".
    """

    images: Images
    labels: np.ndarray
    split: str


class Marks(NamedTuple):
    """Whose cues images carry.

    Attributes:
      plain: (N, H, W, 3) uint8, the images without any.
      given: (N,) int32, the class whose cue an image carries as in training.
      other: (N,) int32, another class than its own, each equally likely; `given` where that is not its own.
    """

    plain: np.ndarray
    given: np.ndarray
    other: np.ndarray


class Cue(NamedTuple):
    """A spurious cue (`cues`) on the images of a data set.

    Attributes:
      kind: of cues.KINDS, not "none".
      correlation: the probability that an image carries the cue of its own class.
      num_classes: K.
      marks: {part: Marks}: of "train" and "test" beside a Source; of "validation" and "test", which may be
        evaluated, in a Dataset.
    """

    kind: str
    correlation: float
    num_classes: int
    marks: dict[str, Marks]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set; its arrays are read-only. Images that stream are `Encoded` in their place.

    Attributes:
      name: what `config.data.name` says.
      train_images: (N, H, W, 3) uint8.
      train_labels: (N,) int32 in 0..num_classes - 1.
      test_images, test_labels: the test set, the same types.
      validation_images, validation_labels: the training images that are held out; empty where none are.
      num_classes: K.
      mean, std: per channel in [0, 1], three Python floats each.
      fingerprint: sha256 (`fingerprint`) over the training images and labels as they are here, and those
        held out or, where none are, the test set.
      source_fingerprint: the same over all that the loader returned: parts of one data set share it.
      cue: the spurious cue that all these images carry; None without.
      classes: names of the K classes; empty where the data has none: see `class_name`.
    """

    name: str
    train_images: Images
    train_labels: np.ndarray
    test_images: Images
    test_labels: np.ndarray
    validation_images: Images
    validation_labels: np.ndarray
    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fingerprint: str
    source_fingerprint: str
    cue: Cue | None = None
    classes: tuple[str, ...] = ()

    def class_name(self, label: int) -> str:
        """What a class is called: its number where the data has no names."""
        return self.classes[label] if self.classes else str(int(label))

    def evaluated(self, split: str) -> Evaluated:
        """The images that `config.eval.split` names; of "", those held out where there are some.

        Raises:
          DataError: "validation", and none are held out.
        """
        held_out = len(self.validation_labels)
        if split == "validation" and not held_out:
            raise DataError("eval.split is 'validation', and data.validation holds no images out")
        if split == "validation" or (split == "" and held_out):
            return Evaluated(self.validation_images, self.validation_labels, "validation")
        return Evaluated(self.test_images, self.test_labels, "test")


def make(
    name: str, source: Source, validation: int, max_train: int = 0, cue: Cue | None = None, budget: int = 0
) -> Dataset:
    """The data set `name` from what its loader returned, `validation` training images held out.

    Of those that are not held out `max_train` at most are trained on, 0 for all: which are held out does not
    depend on it. `cue` is that of the source's images (`cues.mark`), None without. Where training images are
    `Encoded` the others are decoded if they have `budget` bytes at most.

    Raises:
      DataError: `validation` is not an integer in 0..N - 1, or all training images are of one class.
    """
    _check_validation(name, len(source.train_images), validation)
    train = (source.train_images, source.train_labels.astype(np.int32))
    test = (source.test_images, source.test_labels.astype(np.int32))
    streams, count = isinstance(source.train_images, Encoded), len(source.train_images)
    describe = survey.look if streams else _describe
    whole = used = describe(train, test)
    held_out, kept = validation_split(count, int(validation))
    held = _rows(train, held_out)
    if max_train:
        kept = subset(count, kept, max_train)
    if len(kept) < count:
        train = _rows(train, kept)
        used = describe(train, held if validation else test)
    if len(np.unique(train[1])) < 2:
        only = source.classes[train[1][0]] if source.classes else train[1][0]
        raise DataError(
            f"{name}: all {len(kept)} training images are of class {only}; "
            "a classifier needs two classes or more"
        )
    mean, std = source.mean, source.std
    if mean is None or std is None:
        mean, std = (used.mean, used.std) if streams else channel_statistics(train[0])
    if streams and test[0].nbytes + held[0].nbytes <= budget:  # evaluations decode them again and again
        test, held = ((np.asarray(images), labels) for images, labels in (test, held))
    arrays = [_read_only(array) for array in (*train, *test, *held)]
    if cue:
        validation_marks = Marks(*(array[held_out] for array in cue.marks["train"]))
        cue = cue._replace(marks={"test": cue.marks["test"], "validation": validation_marks})
        for array in (*cue.marks["test"], *validation_marks):
            array.setflags(write=False)
    return Dataset(
        name,
        *arrays,
        num_classes=int(source.num_classes),
        mean=mean,
        std=std,
        fingerprint=used.fingerprint,
        source_fingerprint=whole.fingerprint,
        cue=cue,
        classes=source.classes,
    )


class _Described(NamedTuple):
    fingerprint: str


def _describe(train, other):
    return _Described(fingerprint(*train, *other))


def _rows(part, index):
    images, labels = part
    return images.rows(index) if isinstance(images, Encoded) else images[index], labels[index]


def _read_only(array):
    if isinstance(array, np.ndarray):
        array = np.ascontiguousarray(array)
        array.setflags(write=False)
    return array


def _check_validation(name, count, validation):
    if isinstance(validation, bool) or not isinstance(validation, int | np.integer):
        raise DataError(f"data.validation must be an integer, not {validation!r}")
    if not 0 <= validation < count:
        raise DataError(
            f"data.validation is {validation}; it must be at least 0 (none are held out) "
            f"and below {count}, the number of training images of {name!r}"
        )


def validation_split(count: int, validation: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted row numbers (held out, kept) of `count` images; a larger split contains a smaller.

    RandomState and not Generator: NumPy promises that its stream never changes.
    """
    order = np.random.RandomState(VALIDATION_SEED).permutation(count)
    return np.sort(order[:validation]), np.sort(order[validation:])


def subset(count: int, kept: np.ndarray, max_train: int) -> np.ndarray:
    """`max_train` at most of the row numbers `kept` of `count` images, sorted.

    A plain random sample, in which each class keeps its share but for chance; a larger contains a smaller.
    """
    order = np.random.RandomState(SUBSET_SEED).permutation(count)
    return np.sort(order[np.isin(order, kept)][:max_train])


def absent(labels: np.ndarray, num_classes: int) -> list[int]:
    """The classes of 0..K-1 that no label names."""
    return np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0).tolist()


def foreign(labels: np.ndarray, dataset: Dataset) -> str | None:
    """Why `labels` (N,) cannot be those of N of the test images of `dataset`; None if they can."""
    if labels.min() < 0 or labels.max() >= dataset.num_classes:
        odd = labels.max() if labels.min() >= 0 else labels.min()
        return (
            f"has the label {odd}; {dataset.name} has the classes 0..{dataset.num_classes - 1}. "
            "Are these the files of another data set?"
        )
    there = np.bincount(labels, minlength=dataset.num_classes)
    allowed = np.bincount(dataset.test_labels, minlength=dataset.num_classes)
    if (there > allowed).any():
        label = int((there - allowed).argmax())
        return (
            f"has class {label} {there[label]} times; the {len(dataset.test_labels)} test images of "
            f"{dataset.name} have it {allowed[label]} times. Are these the files of another data set?"
        )
    return None
