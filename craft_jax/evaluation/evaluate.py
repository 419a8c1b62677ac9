"""A model in, its accuracies out: clean, and under each corruption and severity.

Corrupted images are made on the device from the test images (`images`), or read from files (`eval.source`).
On a CPU no figure depends on the batch size or the number of devices; a GPU may choose another algorithm for
a convolution of another size, with other last digits. A student that adapts itself to what it is shown
(`eval.adaptation`) is another matter: see `adaptation`.
"""

import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from craft_jax import data, files, methods, models, processes
from craft_jax.config import rules, tree
from craft_jax.evaluation import adaptation, correctness, metrics, names, robustness, spurious, targets
from craft_jax.evaluation.images import shown
from craft_jax.mesh import make_mesh, put, replicated_on
from craft_jax.runs import checkpoint, directory, predict, start, teachers

# (variables, images in [0, 1]) -> logits, both float32; and that with its variables.
Predict = Callable[[Any, Float[Array, "B H W 3"]], Float[Array, "B K"]]
Network = tuple[Predict, Any]


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
    images: UInt8[np.ndarray, "N H W 3"],
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
      "against_reference" (`robustness.against`), or None; and what was evaluated: the EvaluationRecord, the
      corruptions that student or teacher were trained on, those evaluated, and those in both.
    """
    networks = [student, teacher] if teacher and config.eval.teacher else [student]
    size = config.eval.batch_size
    logits = functools.partial(logits_of, networks, batch_size=size, mesh=mesh)
    if adapter:
        size = config.eval.adaptation_batch_size
        logits = functools.partial(adaptation.logits_of, adapter, networks, batch_size=size, mesh=mesh)
    figures, agreement, right, bins = _measure(logits, len(networks), dataset, config, wanted.files)
    own, *others = [_summary(*of_one, dataset, config) for of_one in zip(figures, right, strict=True)]
    against = None
    if wanted.reference:
        figures = robustness.against(own, wanted.reference, wanted.record["same_images"])
        against = {"reference": config.eval.reference, **figures}
    result = {
        **wanted.record,
        **own,
        "calibration_bins": bins,
        "teacher_evaluation": {**others[0], "agreement": agreement} if others else None,
        "against_reference": against,
        **_protocol(config, list(own["corruptions"]), teacher_record or {}, start_record or {}),
    }
    return Evaluation(result, right[0])


def _measure(logits_of, networks, dataset, config, files):
    """Over `_sets`: [{set: figures} of each network], agreement of the first two, [{set: which are right}] of
    each, and the first one's calibration bins.

    `logits_of` takes images and maybe a corruption and a severity to make, and gives logits of each network.
    """
    sets = list(_sets(dataset, config, files))
    figures, right = [{} for _ in range(networks)], [{} for _ in range(networks)]
    agreement, bins = {}, {}
    for where, images, labels in tqdm(sets, "evaluate", disable=not config.log.progress, mininterval=0.5):
        name, severity = where if isinstance(where, tuple) and not files else (None, None)
        logits = logits_of(images(), name=name, severity=severity)
        for cells, hits, x in zip(figures, right, logits, strict=True):
            cells[where] = robustness.cell(x, labels)
            hits[correctness.cell_name(where)] = metrics.correct(x, labels)
        bins[where] = metrics.confidence_bins(logits[0], labels)
        if networks > 1:
            agreement[where] = metrics.agreement(*logits)
    corrupted = [percent for where, percent in agreement.items() if isinstance(where, tuple)]
    agreement = {
        "clean": agreement.get("clean"),
        "shifted": agreement.get("shifted"),
        "corrupted": float(np.mean(corrupted)) if corrupted else None,
    }
    cells = [of_cell for where, of_cell in bins.items() if isinstance(where, tuple)]
    return figures, agreement, right, metrics.calibration(bins["clean"], cells)


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


def _protocol(config, evaluated, teacher_record, start_record):
    trained = methods.trained_corruptions(config)
    # Not known of an imported teacher or in an older version's record: None, where [] says there were none.
    teachers_own = teacher_record.get("trained_corruptions") if teacher_record else []
    starts_own = start_record.get("trained_corruptions", [])
    return {
        "trained_corruptions": trained,
        "teacher_trained_corruptions": teachers_own,
        "evaluated_corruptions": evaluated,
        "overlap_allowed": config.views.allow_overlap,
        "overlap": sorted({*trained, *(teachers_own or []), *starts_own} & set(evaluated)),
    }


def evaluate_workdir(config: ConfigDict, workdir: str | Path, name: str = "") -> tuple[dict[str, Any], Path]:
    """Evaluate a run's newest student under `config.eval`; leaves its results.json alone.

    Args:
      config: the run's configuration; eval.*, data.dir, log.* and checkpoint.* may differ from it.
      workdir: the run's working directory.
      name: what to call the evaluation; "" for `names.default`.
    Returns:
      (result, path): what was measured, and DIR/eval/NAME.json, where it was written; NAME.npz beside it
      says which images were classified right (`correctness`).
    Raises:
      CheckpointError: no student there, or one of another configuration or data set.
      ConfigError, DataError: what `eval.source` or `eval.reference` names is missing or does not fit, or
        the name is taken by an evaluation of other settings.
    """
    workdir = Path(workdir)
    rules.validate(config)
    student = processes.writer_first(predict.load, workdir)
    adaptation.check(config, student.config.student.name, student.variables)
    path = names.path_of(workdir, config, student.config, name)
    dataset = processes.writer_first(data.load, config)
    wanted, *known = processes.writer_first(_known, config, workdir, dataset)
    with files.lock(path.with_name(f".{path.stem}.lock"), wait=False):
        processes.decided(names.check_free, path, config, wanted.record)
        result, correct = _of_student(student, dataset, config, wanted, *known)
        result |= {"workdir": str(workdir)}
        correctness.write(path.with_suffix(".npz"), correct)
        files.write_json(path, result)
    return result, path


def _known(config, workdir, dataset):
    """What the files of a run say for its evaluation, checked: (Targets, its Teacher, the records of teacher
    and start), each but the first None where there is none."""
    directory.check_same_run(workdir, config, data.record(dataset))
    wanted = targets.prepare(config, dataset)
    record = directory.begun_with(workdir)
    teachers.check_overlap(record, config)
    started_from = directory.started_from(workdir)
    teachers.check_overlap(started_from, config, "the start")
    teacher = _teacher(config, workdir, dataset) if record else None
    return wanted, teacher, record, started_from


def _of_student(student, dataset, config, wanted, teacher, *records):
    """`evaluate`, and which student it was."""
    mesh = make_mesh()
    taught = _on(mesh, teacher) if teacher else None
    adapter = adaptation.make(config, student.model, mesh) if wanted.record["adaptation"] else None
    result, correct = evaluate(_on(mesh, student), dataset, config, mesh, wanted, taught, *records, adapter)
    result |= {
        "method": config.method,
        "dataset": dataset.name,
        "seed": config.seed,
        "step": student.step,
        "params_sha256": checkpoint.params_sha256(student.variables),
        "config": tree.to_json(config),
    }
    return result, correct


def _on(mesh, network):
    """(predict, variables) on all devices, of what has a model and variables."""
    return predictor(network.model, mesh), put(network.variables, replicated_on(mesh))


def _teacher(config, workdir, dataset):
    """The run's teacher, or None where none is asked for, or it is no longer there."""
    if not config.eval.teacher:
        return None
    try:
        return teachers.known(config, workdir, dataset)
    except teachers.TeacherGone as error:
        print(f"note: evaluated without its teacher: {error}", file=sys.stderr)
        return None
