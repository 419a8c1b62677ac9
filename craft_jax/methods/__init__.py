"""Which losses a method adds up, with which weights. `METHODS` is the registry: name -> Method."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from craft_jax.errors import ConfigError
from craft_jax.methods import (
    attention,
    augmix,
    craft,
    crd,
    dist,
    dkd,
    erm,
    fitnets,
    kd,
    nst,
    pkt,
    rkd,
    sp,
    vid,
)
from craft_jax.methods.combined import combined, parts
from craft_jax.methods.common import Method, Signals, Terms, check_terms

__all__ = [
    "METHODS",
    "Method",
    "Signals",
    "Terms",
    "check_stages",
    "check_terms",
    "combinable",
    "makes_views",
    "needs_teacher",
    "notes",
    "summed",
    "trained_corruptions",
    "trains_teacher",
    "unread",
]

METHODS = {
    "erm": erm.METHOD,
    "augmix": augmix.METHOD,
    "kd": kd.METHOD,
    "attkd": attention.METHOD,
    "fitnets": fitnets.METHOD,
    "sp": sp.METHOD,
    "rkd": rkd.METHOD,
    "pkt": pkt.METHOD,
    "nst": nst.METHOD,
    "vid": vid.METHOD,
    "crd": crd.METHOD,
    "dkd": dkd.METHOD,
    "dist": dist.METHOD,
    "craft": craft.METHOD,
}
METHODS["combined"] = combined(METHODS)

# Sections and keys that every run reads, whatever its method.
_ALWAYS = (
    *("seed", "method", "dtype", "precision", "compilation_cache", "batch_size", "epochs"),
    "label_smoothing",
    *("data.name", "data.size", "data.validation", "data.max_train", "data.crop", "data.flip"),
    "data.test_crop",
    "data.cue",
    *("student", "eval", "checkpoint", "log", "distributed"),
    "views.allow_overlap",
)


def combinable() -> list[str]:
    """The methods that a sum may have: all that have a term beside the cross-entropy."""
    return [name for name in METHODS if name not in ("erm", "combined")]


def summed(config: ConfigDict) -> tuple[str, ...]:
    """The methods whose terms a run adds up: its own, or those of `combined.methods`."""
    return tuple(config.combined.methods) if config.method == "combined" else (config.method,)


def trained_corruptions(config: ConfigDict) -> list[str]:
    """The names of the corruptions that a run's networks see in training; AugMix's operations are none."""
    return (
        list(config.views.corruptions) if makes_views(config) and config.views.kind == "corruptions" else []
    )


def makes_views(config: ConfigDict) -> bool:
    """Whether a network forwards any view beside the clean one."""
    return max(METHODS[config.method].views(config)) > 1


def needs_teacher(config: ConfigDict) -> bool:
    """Whether the run has a teacher."""
    return METHODS[config.method].views(config)[1] > 0


def trains_teacher(config: ConfigDict) -> bool:
    """Whether the run may have to train its teacher: it has one, and none is given by its directory."""
    return needs_teacher(config) and not config.teacher.checkpoint


def check_stages(config: ConfigDict, counts: dict[str, int]) -> None:
    """Check that both networks have the stages that the method pairs.

    Args:
      config: reads method, and what that method reads.
      counts: {"student's name", "teacher's name": how many stages it has}; maps' sizes may differ at will.
    Raises:
      ConfigError: one lacks a stage, or a method that pairs them all meets unequal numbers.
    """
    key, summands = "method", [(config.method, METHODS[config.method], config)]
    if config.method == "combined":
        key, summands = "combined.methods", parts(METHODS, config)
    told = ", ".join(f"{name} has {count}" for name, count in counts.items())
    for name, method, own in summands:
        if fault := _stages_fault(method.stages(own), set(counts.values())):
            raise ConfigError(f"config.{key}: {name} {fault}, and {told} (python -m craft_jax.models)")


def _stages_fault(read, have):
    """Why networks that have so many stages cannot serve a method that reads these, "" where they can."""
    if read == "all":
        if len(have) == 1 and min(have) > 0:
            return ""
        return (
            "pairs every stage of the student with the teacher's; allowed: networks of as many, at least one"
        )
    if max(map(abs, read), default=0) <= min(have):
        return ""
    named = ", ".join("-1 (the last)" if stage == -1 else str(stage) for stage in read)
    return f"reads the stages {named}; allowed: those that both networks have"


def notes(config: ConfigDict, keys: Iterable[str]) -> list[str]:
    """What a user who overrides these dotted keys should know before the run: lines, none for nothing."""
    without = unread(config, dict.fromkeys(keys))
    lines = [f"config.{key} has no effect in this run of method {config.method}" for key in without]
    return [*lines, *filter(None, [METHODS[config.method].note(config)])]


def unread(config: ConfigDict, keys: Iterable[str]) -> list[str]:
    """Which of some dotted keys have no effect under this configuration; none of a method that says nothing.

    Another method's keys, those of a term of weight 0, of views that no network forwards or of the other
    kind and, of a teacher given by its directory, how one would be trained; a directory of embedded data.
    """
    if METHODS[config.method].reads is None:
        return []
    read = (*_ALWAYS, *METHODS[config.method].reads(config), *_teacher_reads(config), *_view_reads(config))
    read += _optimizer_reads(config)
    read += ("data.crop_padding",) if config.data.crop == "padded" else ("data.crop_scale",)
    read += () if config.data.name == "digits" else ("data.dir",)
    read += () if config.data.cue == "none" else ("data.cue_correlation",)
    return [key for key in keys if not any(key == r or key.startswith(f"{r}.") for r in read)]


def _optimizer_reads(config):
    drops = ("drop_epochs", "drop_factor")
    drop = config.optimizer.schedule == "drops" or (
        trains_teacher(config) and config.teacher.schedule == "drops"
    )
    return tuple(f"optimizer.{key}" for key in config.optimizer if drop or key not in drops)


def _teacher_reads(config):
    if not needs_teacher(config):
        return ()
    if not trains_teacher(config):
        return ("teacher.checkpoint", "teacher.allow_other_data")
    trained = tuple(f"teacher.{key}" for key in config.teacher if key != "allow_other_data")
    return (*trained, "augmix") if config.teacher.method == "augmix" else trained


def _view_reads(config):
    if not makes_views(config):
        # A count of 0 has an effect where it is why there are none.
        more = config.copy_and_resolve_references()
        more.views.count = 1
        return ("views.count",) if config.views.count == 0 and makes_views(more) else ()
    made = {
        "corruptions": ("views.corruptions", "views.severities", "views.lanes"),
        "augmix": tuple(f"augmix.{key}" for key in ("severity", "width", "depth", "alpha")),
    }
    return ("views.count", "views.kind", *made[config.views.kind])
