"""From a study file to its runs: what each one's command is, checked before anything runs."""

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from craft_jax import data, methods
from craft_jax.config import changes, command, reader, rules, tree
from craft_jax.errors import ConfigError
from craft_jax.evaluation.robustness import METRICS
from craft_jax.study.definition import Arm, Comparison, Study

# What two arms must share for their difference, seed by seed, to be the method's and nothing else's.
_SHARED = ("data.", "eval.", "batch_size", "student.", "dtype", "precision")
_UNSHARED = ("eval.teacher", "eval.batch_size", "eval.clean_every_epochs", "eval.reference")


@dataclass(frozen=True, eq=False)
class Run:
    """One arm under one seed.

    Attributes:
      arm, seed: which.
      spec: FILE[:PRESET] of its configuration.
      overrides: ((dotted key, text), ...) on top.
      config: the ConfigDict that these make.
      workdir: DIR/ARM/seedN.
      data: fingerprint of the user's own images; "" of a data set that its name says all of.
    """

    arm: str
    seed: int
    spec: str
    overrides: tuple[tuple[str, str], ...]
    config: ConfigDict
    workdir: Path
    data: str

    @property
    def name(self) -> str:
        """ARM/seedN."""
        return f"{self.arm}/seed{self.seed}"

    def command(self, more: Sequence[tuple[str, str]] = ()) -> list[str]:
        """The words of the run's command, with some more overrides."""
        sets = [f"--config.{key}={text}" for key, text in (*self.overrides, *more)]
        start = [sys.executable, "-m", "craft_jax.main"]
        return [*start, f"--config={self.spec}", f"--workdir={self.workdir}", *sets]

    def evaluation(self, name: str, overrides: Mapping[str, Any], more: Sequence[tuple[str, str]] = ()):
        """The words of the command that evaluates its student once more, as `Study.evaluations` has it."""
        own = {key: text_of(value) for key, value in overrides.items()}
        kept = [(key, text) for key, text in self.overrides if key not in own]
        words = replace(self, overrides=(*kept, *own.items())).command(more)
        return [*words, "--mode=eval", f"--eval_name={name}"]


def read(spec: str) -> tuple[Study, str, str]:
    """The study of FILE[:PRESET].

    Returns:
      (study, name, question): the file's stem with the presets; the file's docstring.
    Raises:
      ConfigError: no such file, what it raises, or it returns no Study.
    """
    path, _, preset = spec.partition(":")
    if not Path(path).is_file():
        known = ", ".join(map(str, sorted(Path("configs/studies").glob("[!_]*.py"))))
        raise ConfigError(f"study: no file {path!r}; allowed: {known or 'a Python file'}")
    try:
        module = reader.import_file(path)
        study = module.get_study(preset)
    except Exception as error:  # whatever the user's file raises
        raise ConfigError(f"study {spec}: {type(error).__name__}: {error}") from error
    if not isinstance(study, Study):
        raise ConfigError(f"study {spec}: get_study returned {type(study).__name__}; allowed: a study.Study")
    name = "_".join([Path(path).stem, *filter(None, preset.split(","))])
    return study, name, inspect.cleandoc(module.__doc__ or "")


def runs(study: Study, out: str | Path, everywhere: Sequence[tuple[str, str]] = ()) -> list[Run]:
    """The runs in their order: all arms of one seed before the next, so that a balanced table always exists.

    Args:
      study: the Study.
      out: where the runs shall live.
      everywhere: ((dotted key, text), ...), overrides of every arm.
    Raises:
      ConfigError: the message lists every fault of every arm, and comparisons that could not be paired.
    """
    if faults := list(_strangers(study)):
        raise ConfigError("\n".join(faults))  # nothing more can be asked of it
    faults = list(_faults(study))
    planned, fingerprints = [], {}
    for name, arm in study.arms.items():
        try:
            config, overrides = _configure(name, arm, everywhere, Path(out))
        except ConfigError as error:
            faults += [f"arm {name}: {line}" for line in str(error).splitlines()]
        else:
            faults += _not_evaluated(name, arm, study, overrides)
            planned.append((name, arm, config, overrides))
            if _data(config) not in fingerprints:
                fingerprints[_data(config)] = _fingerprint(config)
    configs = {name: config for name, _, config, _ in planned}
    faults += _unpaired(study, configs)
    if faults:
        raise ConfigError("\n".join(faults))
    seeds = list(dict.fromkeys(s for arm in study.arms.values() for s in (*study.seeds, *arm.seeds)))
    return [
        _run(name, seed, arm, config, overrides, Path(out), fingerprints[_data(config)])
        for seed in seeds
        for name, arm, config, overrides in planned
        if seed in (arm.seeds or study.seeds)
    ]


def _run(name, seed, arm, config, overrides, out, fingerprint):
    config = config.copy_and_resolve_references()
    config.seed = seed
    overrides = (*overrides, ("seed", str(seed)))
    return Run(name, seed, arm.config, overrides, config, out / name / f"seed{seed}", fingerprint)


def _data(config):
    """What names the images of a configuration: arms mostly share them."""
    return tuple(tree.flatten(config.data).items())


def _fingerprint(config):
    """Two files or folders of images are two data sets of one name: their content tells them apart."""
    return data.load(config).fingerprint if config.data.name in data.OWN else ""


def _configure(name, arm, everywhere, out):
    """(config, overrides) of an arm; the study adds where its teachers lie and that runs do not chatter."""
    own = [(key, text_of(value)) for key, value in arm.overrides.items()]
    faults = [
        f"config.{key}: overridden by the study file and by the command; allowed: one of them"
        for key in sorted({key for key, _ in own} & {key for key, _ in everywhere})
    ]
    faults += [
        "config.seed: allowed: Study.seeds or Arm.seeds" for key, _ in (*own, *everywhere) if key == "seed"
    ]
    if faults:
        raise ConfigError("\n".join(faults))
    overrides = [*own, *everywhere]
    given = {key for key, _ in overrides}
    # A teacher is measured once, by its own run.
    added = {"teacher.cache": str(out / "teachers"), "eval.teacher": "False", "log.progress": "False"}
    overrides += [(key, text) for key, text in added.items() if key not in given]
    config = reader.load(arm.config, overrides)
    rules.validate_training(config)
    return config, overrides


def _not_evaluated(name, arm, study, overrides):
    """What is wrong with the study's further evaluations of an arm."""
    for evaluation, own in study.evaluations.items():
        texts = {**dict(overrides), **{key: text_of(value) for key, value in own.items()}}
        try:
            rules.validate(reader.load(arm.config, list(texts.items())))
        except ConfigError as error:
            yield from (f"evaluation {evaluation} of {name}: {line}" for line in str(error).splitlines())


def text_of(value) -> str:
    """An override's value as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _strangers(study):
    """Parts of a Study that are of another type."""
    if not isinstance(study.arms, Mapping):
        yield f"arms: {type(study.arms).__name__}; allowed: a mapping of names to study.Arm"
        return
    owned = [("seeds", study.seeds)]
    for name, arm in study.arms.items():
        if not isinstance(arm, Arm):
            yield f"arm {name}: {type(arm).__name__}; allowed: a study.Arm"
        else:
            owned.append((f"arm {name}: seeds", arm.seeds))
    for where, seeds in owned:
        if not isinstance(seeds, Sequence) or not all(map(_is_seed, seeds)):
            yield f"{where}: {seeds!r}; allowed: a tuple of integers from 0 to 2^31 - 1"
    for planned in study.comparisons:
        if not isinstance(planned, Comparison):
            yield f"comparisons: {planned!r}; allowed: a study.Comparison"


def _is_seed(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _faults(study):
    """What is wrong with a Study whatever its arms' configurations are."""
    if not study.arms:
        yield "study: no arms; allowed: at least one"
    for name, arm in study.arms.items():
        if not command.is_eval_name(name) or name == "teachers" or re.fullmatch(r"seed\d+", name):
            yield f"arm {name!r}: allowed: {command.EVAL_NAME_MEANS}; not teachers, not seedN"
        if not (arm.seeds or study.seeds):
            yield f"arm {name}: no seeds; allowed: at least one, in Study.seeds or Arm.seeds"
        elif len(set(arm.seeds or study.seeds)) < len(arm.seeds or study.seeds):
            yield f"arm {name}: a seed twice in {arm.seeds or study.seeds}"
    for name, overrides in study.evaluations.items():
        if not command.is_eval_name(name):
            yield f"evaluation {name!r}: allowed: {command.EVAL_NAME_MEANS}"
        for key in overrides:
            if not key.startswith("eval."):
                yield f"evaluation {name}: {key}; allowed: keys of eval"
    if study.baseline not in study.arms:
        yield f"baseline: {study.baseline!r} is no arm; allowed: {', '.join(study.arms)}"
    for planned in study.comparisons:
        for arm in (planned.arm, planned.baseline):
            if arm not in study.arms:
                yield f"comparisons: {arm!r} is no arm; allowed: {', '.join(study.arms)}"
        if planned.metric not in METRICS:
            yield f"comparisons: metric {planned.metric!r}; allowed: {', '.join(METRICS)}"
        if planned.arm == planned.baseline:
            yield f"comparisons: {planned.arm} with itself"
    if len(set(study.comparisons)) < len(study.comparisons):
        yield "comparisons: one is there twice"


def _unpaired(study, configs):
    """Why arms of a planned comparison are no pairs: they differ in more than how the student is trained."""
    for planned in study.comparisons:
        if not {planned.arm, planned.baseline} <= configs.keys():
            continue
        one, other = (_identity(configs[name]) for name in (planned.arm, planned.baseline))
        keys = [key for key in one.keys() & other.keys() if one[key] != other[key]]
        if keys:
            yield (
                f"comparisons: {planned.arm} and {planned.baseline} differ in {', '.join(sorted(keys))}; "
                "allowed: pairs with the same teacher, data, batches, student and evaluation"
            )


def _identity(config):
    flat = tree.flatten(config)
    shared = {key: flat[key] for key in flat if key.startswith(_SHARED) and key not in _UNSHARED}
    if methods.needs_teacher(config):
        shared["teacher"] = config.teacher.checkpoint or teacher_recipe(config, "")
    return shared


def teacher_recipe(config: ConfigDict, fingerprint: str) -> dict:
    """How the teacher that a configuration asks for is made, and on what data (`Run.data`)."""
    return trained_recipe(tree.teacher_config(config), fingerprint)


def trained_recipe(config: ConfigDict, fingerprint: str) -> dict:
    """The same of a trained teacher's own configuration."""
    flat = tree.flatten(config)
    images = {key: flat[key] for key in flat if key.startswith("data.") and not changes.is_place(key)}
    if config.data.name in data.OWN:
        images["data"] = fingerprint
    return tree.teacher_recipe(config) | images
