"""What an evaluation is of: where its images come from, and which run it is compared with."""

from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict

from craft_jax import corruptions, data, files, streams
from craft_jax.corruptions.settings import original_side
from craft_jax.data import shifted
from craft_jax.data.shifted import Shifted
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.evaluation import adaptation


class EvaluationRecord(TypedDict):
    """What a result says of the images that it was measured on.

    Keys:
      data: a data.DataRecord.
      source: `eval.source`.
      source_record: what the files say of themselves; None for corruptions made here.
      evaluation_split: "test" or "validation".
      examples, clean_examples: how many shifted and how many clean images.
      same_images: whether the former are the latter, shifted.
      corruption_settings_of_side: whose settings they got (`corruptions.settings`); None for files.
      frost_pictures: `corruptions.frost_source`; None for files, or without frost.
      draws: `streams.DRAWS`.
      adaptation: how the student was adapted to these images; None where it was not.
    """

    data: data.DataRecord
    source: str
    source_record: dict | None
    evaluation_split: str
    examples: int
    clean_examples: int
    same_images: bool
    corruption_settings_of_side: int | None
    frost_pictures: str | None
    draws: str
    adaptation: adaptation.AdaptationRecord | None


class Targets(NamedTuple):
    """What an evaluation needs, read from the disk and checked before any work.

    Attributes:
      files: None where corruptions are made here.
      record: what the result will say of them.
      reference: the result of the run that eval.reference names, or None.
    """

    files: Shifted | None
    record: EvaluationRecord
    reference: dict[str, Any] | None


def prepare(config: ConfigDict, dataset: data.Dataset) -> Targets:
    """Find what `eval.source` and `eval.reference` name.

    Args:
      config: reads eval.* and views.*.
      dataset: the run's.
    Raises:
      DataError, CheckpointError, ConfigError: it is missing, or does not fit.
    """
    files = None if config.eval.source == "regenerated" else shifted.load(config, dataset)
    images, labels = clean_images(config, dataset, files, config.eval.split)
    made_frost = not files and "frost" in config.eval.corruptions
    record: EvaluationRecord = {
        "data": data.record(dataset),
        "source": config.eval.source,
        "source_record": files.record if files else None,
        "evaluation_split": dataset.evaluated(config.eval.split).split,
        "examples": len(files.labels) if files else len(labels),
        "clean_examples": len(labels),
        "same_images": not files or _same_images(files, dataset),
        "corruption_settings_of_side": None if files else original_side(images.shape[1:]),
        "frost_pictures": corruptions.frost_source() if made_frost else None,
        "draws": streams.DRAWS,
        "adaptation": adaptation.record(config),
    }
    if not config.eval.reference:
        return Targets(files, record, None)
    cells = {(name, s) for name in config.eval.corruptions for s in config.eval.severities}
    workdir = Path(config.eval.reference).expanduser()
    if not (workdir / "results.json").exists():
        raise ConfigError(f"config.eval.reference: {workdir} has no results.json; allowed: a finished run")
    return Targets(files, record, find_reference(workdir, comparable(record) | {"cells": cells}))


def clean_images(
    config: ConfigDict, dataset: data.Dataset, files: Shifted | None, split: str
) -> tuple[UInt8[data.Images, "N H W 3"], Int[np.ndarray, " N"]]:
    """Images and labels: the first `eval.max_examples` clean ones, no more than files have corrupted.

    Args:
      config: reads eval.max_examples.
      dataset: the run's.
      files: the shifted images, None where corruptions are made here.
      split: as `data.Dataset.evaluated` has it.
    """
    images, labels, _ = dataset.evaluated(split)
    count = config.eval.max_examples or len(labels)
    if files and files.names:
        count = min(count, len(files.labels))
    return images[:count], labels[:count]


def _same_images(files, dataset):
    """Published files have another order than TFDS: they are of the same images if both are whole."""
    if not files.names:
        return False
    count = len(files.labels)
    return count == len(dataset.test_labels) or bool((files.labels == dataset.test_labels[:count]).all())


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    """What two results must share to be compared cell by cell: {what: value}."""
    record = result.get("source_record") or {}
    return {
        "data": result["data"]["fingerprint"],
        "source": result["source"],
        "files": {key: record[key] for key in ("fingerprint", "configs", "version") if key in record},
        "evaluation split": result["evaluation_split"],
        "examples": result["examples"],
        "frost pictures": result.get("frost_pictures"),
        "draws": result.get("draws") if result["source"] == "regenerated" else None,
        "adaptation": result.get("adaptation"),  # absent from results of older versions
        "cells": cells_of(result),
    }


def cells_of(result: dict[str, Any]) -> set[tuple[str, int]]:
    """The set of (name, severity) that a result has."""
    table = result.get("corruptions", {})  # absent from a run that stopped
    evaluated = ((name, s) for name in table for s in corruptions.SEVERITIES)
    return {(name, s) for name, s in evaluated if table[name][s - 1] is not None}


def find_reference(workdir: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The result of a reference run that was measured as another is.

    Args:
      workdir: the reference's working directory, whose results.json and eval/*.json are searched; or a JSON
        file with what a results.json holds.
      wanted: the `comparable` of the other.
    Returns:
      The result, as its file has it.
    Raises:
      ConfigError: there is none such; the message says in what each differs.
    """
    if not wanted["cells"]:
        raise ConfigError(f"reference {workdir}: no corruptions to compare; allowed: none for this source")
    faults = []
    found_in = [workdir / "results.json", *sorted((workdir / "eval").glob("*.json"))]
    for path in found_in if workdir.is_dir() or workdir.suffix != ".json" else [workdir]:
        try:
            result = files.read_json(path)
            found = comparable(result)
        except CheckpointError as error:
            faults.append(str(error))
        except (KeyError, TypeError, AttributeError):
            faults.append(f"{path} is no result of an evaluation")
        else:
            different = [key for key in wanted if found[key] != wanted[key]]
            if not different:
                return result
            faults.append(f"{path} differs in {', '.join(different)}")
    raise ConfigError(
        f"reference {workdir}: allowed: a run evaluated on the same images, corruptions and severities; "
        + "; ".join(faults)
    )
