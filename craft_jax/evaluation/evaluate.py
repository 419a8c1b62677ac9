"""A model in, its accuracies out: clean, and under each corruption and severity.

Corrupted images are made on the device from the test images (`images`), or read from files (`eval.source`).
On a CPU no figure depends on the batch size or the number of devices; a GPU may choose another algorithm for
a convolution of another size, with other last digits. A student that adapts itself to what it is shown
(`eval.adaptation`) is another matter: see `adaptation`.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from craft_jax import data, methods, models
from craft_jax.evaluation import adaptation, correctness, metrics, robustness, spurious, targets
from craft_jax.evaluation.images import shown
from craft_jax.mesh import replicated_on
from craft_jax.runs import start, teachers

# (variables, images in [0, 1]) -> logits, both float32; and that with its variables.
Predict = Callable[[Any, Float[Array, "B H W 3"]], Float[Array, "B K"]]
Network = tuple[Predict, Any]


class Subject(NamedTuple):
    """A student to be evaluated.

    Attributes:
      student: see `predictor`.
      config: its run's.
      teacher: to be measured on the same images; None for none.
      teacher_record: what the run recorded of its teacher; None without one.
      start_record: likewise of what the student's training started from.
    """

    student: Network
    config: ConfigDict
    teacher: Network | None = None
    teacher_record: teachers.TeacherRecord | None = None
    start_record: start.StartRecord | None = None


class Evaluation(NamedTuple):
    """What was measured of a student.

    Attributes:
      result: JSON-able; see `evaluate`.
      correct: which images it got right, in the order of the data set; see `correctness`.
    """

    result: dict[str, Any]
    correct: correctness.Correct


def predictor(model: models.Model, mesh: Mesh) -> Predict:
    """A network's forward pass, compiled, whose logits every device of the mesh holds."""

    def predict(variables, images):
        outputs, _ = model.apply(variables, images, train=False)
        return outputs.logits

    return jax.jit(predict, out_shardings=replicated_on(mesh))


def logits_of(
    networks: Sequence[Network],
    images: UInt8[data.Images, "N H W 3"],
    batch_size: int,
    mesh: Mesh,
    name: str | None = None,
    severity: int | None = None,
) -> list[Float[np.ndarray, "N K"]]:
    """Logits of a whole set, clean or corrupted; every image once, in order.

    Args:
      networks: all see the same images; see `predictor`.
      images: levels 0..255; may be memory-mapped.
      batch_size: images a step over all devices, at most; the last batch is padded and the padding cut off.
      mesh: a mesh with the one axis "data".
      name, severity: a corruption to make here, or None for the images as they are.
    Returns:
      float32, one a network.
    """
    batch_size = min(batch_size, len(images))
    batch_size = -(-batch_size // mesh.size) * mesh.size  # every device gets as many
    starts = range(0, len(images), batch_size)
    batches = (np.minimum(np.arange(s, s + batch_size), len(images) - 1) for s in starts)
    collected = []
    for seen in shown(images, batches, mesh, name, severity):
        collected.append([predict(variables, seen) for predict, variables in networks])
    joined = (np.concatenate([np.asarray(x) for x in logits]) for logits in zip(*collected, strict=True))
    return [logits[: len(images)] for logits in joined]


def clean_accuracy(
    predict: Predict, variables: Any, dataset: data.Dataset, config: ConfigDict, mesh: Mesh
) -> float:
    """Clean accuracy in percent while training: of held-out images where there are some, else of test images.

    `eval.split` does not matter here: what is watched, and may be chosen by, is not the test set if it can.
    """
    images, labels = targets.clean_images(config, dataset, None, split="")
    (logits,) = logits_of([(predict, variables)], images, config.eval.batch_size, mesh)
    return metrics.accuracy(logits, labels)


def evaluate(
    student: Network,
    dataset: data.Dataset,
    config: ConfigDict,
    mesh: Mesh,
    wanted: targets.Targets,
    teacher: Network | None = None,
    teacher_record: teachers.TeacherRecord | None = None,
    start_record: start.StartRecord | None = None,
    adapter: adaptation.Adapter | None = None,
) -> Evaluation:
    """Accuracies, calibration and agreement, clean and under shift.

    Args:
      student: see `predictor`.
      dataset: the images of `eval.split` are used.
      config: reads eval.* and views.*.
      mesh: a mesh with the one axis "data".
      wanted: from `targets.prepare`.
      teacher: to be measured on the same images; None for none.
      teacher_record: what the run recorded of its teacher; None without one.
      start_record: likewise of what the student's training started from.
      adapter: of the student, where `eval.adaptation` asks for one; the teacher never adapts.
    Returns:
      An Evaluation. Its result: `robustness.summary` of the student; "shifted", its `robustness.cell` under a
      natural shift, else None; "cue", its `spurious.figures` where `data.cue` draws one, else None (clean and
      corrupted images then carry it as in training); "calibration_bins", its `metrics.calibration`;
      "teacher_evaluation", the same of the teacher but the bins, with "agreement" (percent of images on which
      both predict the same class: clean, shifted, and the mean over corrupted cells), or None;
      "against_reference" (`robustness.against`), or None; of ImageNet-C "against_alexnet"
      (`robustness.against_alexnet`); and what was evaluated: the EvaluationRecord, the
      corruptions that student or teacher were trained on, those evaluated, and those in both.
    """
    subject = Subject(student, config, teacher, teacher_record, start_record)
    return evaluate_each([subject], dataset, config, mesh, wanted, adapter)[0]


def evaluate_each(
    subjects: Sequence[Subject],
    dataset: data.Dataset,
    config: ConfigDict,
    mesh: Mesh,
    wanted: targets.Targets,
    adapter: adaptation.Adapter | None = None,
) -> list[Evaluation]:
    """`evaluate` of several students in one pass: what they are shown is made once for all.

    Args:
      subjects: with the same `eval` in their configurations as `config` has.
      dataset, config, mesh, wanted: as for `evaluate`.
      adapter: as there, of the one subject that there then is.
    """
    networks: list[Network] = []

    def place(network):
        """Where a network is in `networks`; a teacher that several subjects hold is there once."""
        if not any(network is other for other in networks):
            networks.append(network)
        return next(i for i, other in enumerate(networks) if network is other)

    pairs = [
        (place(subject.student), place(subject.teacher) if subject.teacher and config.eval.teacher else None)
        for subject in subjects
    ]
    size = config.eval.batch_size
    logits = functools.partial(logits_of, networks, batch_size=size, mesh=mesh)
    if adapter:
        size = config.eval.adaptation_batch_size
        logits = functools.partial(adaptation.logits_of, adapter, networks, batch_size=size, mesh=mesh)
    measured, agreements = _measure(logits, len(networks), pairs, dataset, config, wanted.files)
    summaries = [_summary(of_one.figures, of_one.right, dataset, config) for of_one in measured]
    found = []
    for subject, (own, taught), agreement in zip(subjects, pairs, agreements, strict=True):
        teachers_own = None if taught is None else {**summaries[taught], "agreement": agreement}
        result = _result(subject, summaries[own], teachers_own, measured[own].bins, wanted)
        found.append(Evaluation(result, measured[own].right))
    return found


def _result(subject, summary, teachers_own, bins, wanted):
    """What `evaluate` returns of a student, from its summary, its teacher's and the bins of its cells."""
    config, against = subject.config, None
    if wanted.reference:
        figures = robustness.against(summary, wanted.reference, wanted.record["same_images"])
        against = {"reference": config.eval.reference, **figures}
    cells = [of_cell for where, of_cell in bins.items() if isinstance(where, tuple)]
    return {
        **wanted.record,
        **summary,
        "calibration_bins": metrics.calibration(bins["clean"], cells),
        "teacher_evaluation": teachers_own,
        "against_reference": against,
        **_published(summary, wanted),
        **_protocol(subject, list(summary["corruptions"])),
    }


def _published(summary, wanted):
    """{"against_alexnet": ...} of ImageNet-C's own files, of all its classes; else nothing."""
    imagenet = wanted.record["source"] == "imagenet_c" and wanted.record["data"]["num_classes"] == 1000
    return {"against_alexnet": robustness.against_alexnet(summary["corruptions"])} if imagenet else {}


class _Measured(NamedTuple):
    """What was measured of one network: {set: figures}, {set's name: which are right}, {set: bins}."""

    figures: dict
    right: dict
    bins: dict


def _measure(logits_of, count, pairs, dataset, config, files):
    """Over `_sets`: a _Measured of each of `count` networks, and of each pair of two how often they agree.

    `logits_of` takes images and maybe a corruption and a severity to make, and gives logits of each network.
    """
    sets = list(_sets(dataset, config, files))
    measured = [_Measured({}, {}, {}) for _ in range(count)]
    agreements = [{} for _ in pairs]
    for where, images, labels in tqdm(sets, "evaluate", disable=not config.log.progress, mininterval=0.5):
        name, severity = where if isinstance(where, tuple) and not files else (None, None)
        logits = logits_of(images(), name=name, severity=severity)
        for of_one, x in zip(measured, logits, strict=True):
            of_one.figures[where] = robustness.cell(x, labels)
            of_one.right[correctness.cell_name(where)] = metrics.correct(x, labels)
            of_one.bins[where] = metrics.confidence_bins(x, labels)
        for agreement, (own, taught) in zip(agreements, pairs, strict=True):
            if taught is not None:
                agreement[where] = metrics.agreement(logits[own], logits[taught])
    return measured, [_agreement(of_one) for of_one in agreements]


def _agreement(percents):
    """{"clean", "shifted", "corrupted"}: {set: percent} in three numbers, None where there is no such set."""
    corrupted = [percent for where, percent in percents.items() if isinstance(where, tuple)]
    return {
        "clean": percents.get("clean"),
        "shifted": percents.get("shifted"),
        "corrupted": float(np.mean(corrupted)) if corrupted else None,
    }


def _sets(dataset, config, files):
    """What to evaluate on: (where, () -> images, labels).

    Where is "clean", one of `spurious` where there is a cue, "shifted", or (name, severity).
    """
    clean_images, labels = targets.clean_images(config, dataset, files, config.eval.split)
    yield "clean", lambda: clean_images, labels
    if dataset.cue:
        split = dataset.evaluated(config.eval.split).split
        for where, images in spurious.sets(dataset, split, len(labels)):
            yield where, lambda images=images: images, labels
    if not files:
        for cell in itertools.product(config.eval.corruptions, config.eval.severities):
            yield cell, lambda: clean_images, labels
        return
    if not files.names:
        yield "shifted", functools.partial(files.images, None, None), files.labels
    for cell in itertools.product(files.names, config.eval.severities):
        yield cell, functools.partial(files.images, *cell), files.labels


def _summary(cells, right, dataset, config):
    corrupted = {where: figures for where, figures in cells.items() if isinstance(where, tuple)}
    found = robustness.summary(cells["clean"], corrupted, config.eval.primary_weights)
    cue = None
    if dataset.cue:
        _, labels, split = dataset.evaluated(config.eval.split)
        count = len(right["clean"])
        given = dataset.cue.marks[split].given[:count]
        cue = spurious.figures(cells, right, labels[:count], given, dataset.num_classes)
    return {**found, "shifted": cells.get("shifted"), "cue": cue}


def _protocol(subject, evaluated):
    config, starts_own = subject.config, (subject.start_record or {}).get("trained_corruptions", [])
    trained = methods.trained_corruptions(config)
    # Not known of an imported teacher or in an older version's record: None, where [] says there were none.
    teachers_own = subject.teacher_record.get("trained_corruptions") if subject.teacher_record else []
    return {
        "trained_corruptions": trained,
        "teacher_trained_corruptions": teachers_own,
        "evaluated_corruptions": evaluated,
        "overlap_allowed": config.views.allow_overlap,
        "overlap": sorted({*trained, *(teachers_own or []), *starts_own} & set(evaluated)),
    }
