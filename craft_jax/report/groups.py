"""Runs outside a study, grouped by their configuration less the seed; and what differs between arms."""

import hashlib
import re
from pathlib import Path

from craft_jax.config import tree
from craft_jax.report import measures, tables
from craft_jax.report.studies import Run, Study

_SEED = re.compile(r"(^|[-_.])seed\d+([-_.][0-9a-f]{6,})?$")  # of kd_seed0, seed0 and ARM-seed0-HASH
_LONGEST_VALUE = 32  # characters


def study(paths, named):
    """Runs as a Study without planned comparisons; its baseline is the first one's arm.

    Runs are of one arm where they have the same configuration but for the seed and for keys that change no
    run (`tree.FREE_KEYS`), were measured alike and have the same teacher.

    Args:
      paths: of the runs, as given.
      named: [(name, result)], from `tables.read` of them.
    Raises:
      CheckpointError: a result is none of a run.
    """
    keys, members, others = [], [], []
    for given, (_, result) in zip(paths, named, strict=True):
        directory = tables.directory_of(given)
        path = Path(directory, "results.json") if directory else Path(given)
        if result["status"] != "done":
            others.append(Run(_label(path), result.get("seed"), path, result, measures.why_not_done(result)))
            continue
        measures.check(path, result)
        if (key := _identity(result)) not in keys:
            keys.append(key)
            members.append([])
        members[keys.index(key)].append((path, result))
    arms = _names([group[0][0] for group in members])
    runs = [run for arm, group in zip(arms, members, strict=True) for run in _runs(arm, group)]
    return Study("runs", "", tuple(arms), arms[0] if arms else "", (), (*runs, *others))


def _identity(result):
    how = result.get("method")  # of imported weights no method of its configuration
    return how, settings(result), measures.conditions(result), measures.teacher(result)


def settings(result):
    """{dotted key: value} of a run's configuration, less the seed and the keys that change no run."""
    flat = tree.flatten(tree.from_json(result["config"]))
    return {k: v for k, v in flat.items() if k != "seed" and not k.startswith(tree.FREE_KEYS)}


def _runs(arm, group):
    """The Runs of a group; of those of one seed the first counts."""
    seeds = []
    for path, result in group:
        again = result["seed"] in seeds
        seeds.append(result["seed"])
        yield Run(arm, result["seed"], path, result, f"seed {seeds[-1]} again ({path})" if again else "")


def _label(path):
    """What a run is called without its seed: its directory, or the one above where that is "seedN"."""
    path = path.resolve()
    path = path.parent if path.name == "results.json" else path.with_suffix("")
    return _SEED.sub("", path.name) or path.parent.name


def _names(firsts):
    """A name for each group, by its first result file; of two of the same name the later gets a number."""
    names = []
    for path in firsts:
        label = _label(path)
        names.append(f"{label} ({len(names) + 1})" if label in names else label)
    return names


def differing(study):
    """{arm: "key=value, ..."}: in what the arms of a Study differ, as the results of their runs have it.

    A key whose value differs between the runs of an arm "varies" there. Teachers are told apart by their
    parameters where there are several; data and conditions of measurement where they differ.
    """
    of_arm = {arm: _merged([_facts(run.result) for run in study.counted(arm)]) for arm in study.arms}
    facts = [found for found in of_arm.values() if found]
    keys = sorted({key for found in facts for key in found})
    values = {key: {found.get(key, "(absent)") for found in facts} for key in keys}
    values["teacher"] = values.get("teacher", set()) - {"(none)"}  # a method without one says so itself
    shown = [key for key in keys if len(values[key]) > 1]
    return {
        arm: ", ".join(f"{key}={found.get(key, '(absent)')}" for key in shown) if found else ""
        for arm, found in of_arm.items()
    }


def _facts(result):
    teacher = measures.teacher(result)
    known = {**settings(result), **measures.conditions(result), "teacher": teacher or "(none)"}
    return {key: _short(value) for key, value in known.items()}


def _merged(runs):
    keys = {key for facts in runs for key in facts}
    values = {key: {facts.get(key, "(absent)") for facts in runs} for key in keys}
    return {key: found.pop() if len(found) == 1 else "(varies)" for key, found in values.items()}


def _short(value):
    text = str(sorted(value) if isinstance(value, set) else value)
    if len(text) <= _LONGEST_VALUE:
        return text
    return f"{text[: _LONGEST_VALUE - 11]}...{hashlib.sha256(text.encode()).hexdigest()[:8]}"
