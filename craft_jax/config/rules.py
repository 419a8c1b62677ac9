"""Every rule of a configuration that needs no data: what each key may be, and what ties keys together."""

import jax

from craft_jax import corruptions, data, losses, methods, models, views
from craft_jax.config.tree import flatten
from craft_jax.errors import ConfigError


def validate(config):
    """Check every rule that needs no data, of what an evaluation reads: training has further ones.

    Raises:
      ConfigError: its message lists every fault, each with the key, the value and what is allowed.
    """
    _refuse(faults_of(config, training=False))


def validate_training(config):
    """Check every rule that needs no data, those of training among them.

    Raises:
      ConfigError: its message lists every fault, each with the key, the value and what is allowed.
    """
    _refuse(faults_of(config, training=True))


def _refuse(faults):
    faults = list(faults)
    if faults:
        raise ConfigError("\n".join(faults))


def faults_of(config, training):
    """Every fault of a configuration, one line each.

    Args:
      config: a ConfigDict.
      training: whether it is to be trained, or a run that was is to be evaluated.
    """
    flat = flatten(config)
    missing = [key for key in (*_CHOICES, *_RANGES, *_FREE_VALUES) if key not in flat]
    if missing:
        # The other rules read these keys: a configuration of another version is told so and no more.
        told = (
            "missing; configs/default.py has every key, and a method of your own needs a name that it has not"
        )
        yield from (f"config.{key}: {told}" for key in missing)
        return
    for key, allowed in _CHOICES.items():
        values = flat[key] if isinstance(flat[key], tuple) else (flat[key],)
        names = ", ".join(str(name) or "''" for name in allowed())
        bad = [v for v in values if v not in allowed()]
        for_tests = [v for v in bad if key == "views.corruptions" and v in corruptions.CIFAR10_C_BAR]
        unknown = [v for v in bad if v not in for_tests]
        for refused, why in ((unknown, "is unknown"), (for_tests, "is CIFAR-10-C-bar's, never trained on")):
            if refused:
                yield f"config.{key}: {', '.join(map(repr, refused))} {why}; allowed: {names}"
    for key, (rule, holds) in _RANGES.items():
        values = flat[key] if isinstance(flat[key], tuple) else (flat[key],)
        if not all(holds(v) for v in values):
            yield f"config.{key}: {flat[key]!r}; allowed: {rule}"
    for key in _NOT_EMPTY:
        if not flat[key]:
            yield f"config.{key}: empty; allowed: at least one"
        elif len(set(flat[key])) < len(flat[key]):
            yield f"config.{key}: {flat[key]!r} names one twice"
    yield from _joint_faults(config)
    if training:
        yield from _training_faults(config)


def _joint_faults(config):
    """Rules that tie keys together, whatever the run does."""
    overlap = sorted(set(_trained_corruptions(config)) & set(config.eval.corruptions))
    if overlap and not config.views.allow_overlap:
        yield (
            f"config.views.corruptions: {', '.join(overlap)} also in config.eval.corruptions; training "
            "corruptions must not be evaluated (--config.views.allow_overlap=True marks the results)"
        )
    if config.data.name in data.OWN and not config.data.dir:
        what = "the path of an .npz file" if config.data.name == "npz" else "the directory of train/CLASS/"
        yield f"config.data.dir: empty; data.name={config.data.name} needs {what}"
    if config.data.name == "folder" and config.data.size == 0:
        yield (
            "config.data.size: 0; data.name=folder needs the side that pictures are resized to, at least "
            f"{corruptions.LEAST_SIDE}"
        )
    if config.eval.split == "validation" and not config.data.validation:
        yield (
            "config.eval.split: 'validation' with data.validation=0, which holds no images out; "
            "allowed: '' or 'test'"
        )
    yield from _source_faults(config)
    if len(config.eval.primary_weights) != 2 or abs(sum(config.eval.primary_weights) - 1) > 1e-6:
        yield (
            f"config.eval.primary_weights: {config.eval.primary_weights!r}; "
            "allowed: two weights, of clean and robust accuracy, that sum to 1"
        )
    if config.eval.reference and config.eval.source == "cifar10_1":
        yield "config.eval.reference: cifar10_1 has no corruptions to compare; allowed: empty"


def _training_faults(config):
    """Rules that tie together what only training reads: an evaluation may run on other devices."""
    if config.data.name == "digits" and config.data.flip:
        yield "config.data.flip: True; allowed for digits: False (a flipped 2 is no digit)"
    devices = jax.device_count()
    sizes = {"batch_size": config.batch_size}
    if _trains_teacher(config):
        sizes["teacher.batch_size"] = config.teacher.batch_size
    for key, size in sizes.items():
        if size > 0 and size % devices:
            yield f"config.{key}: {size}; allowed: a multiple of the {devices} devices"
    if config.eval.adaptation in ("batch_norm", "tent"):
        yield (
            f"config.eval.adaptation: {config.eval.adaptation!r}; allowed in training: 'none' (a run's own "
            "evaluation is of the student as it was trained; --mode=eval adapts that of a finished run)"
        )
    augmix = config.views.kind == "augmix"
    if "augmix" in methods.summed(config) and not augmix:
        yield f"config.views.kind: {config.views.kind!r}; allowed for the method augmix: 'augmix'"
    if "augmix" in methods.summed(config) and config.views.count == 0:
        yield "config.views.count: 0; allowed for the method augmix: at least 1 (its paper's is 2)"
    lanes, batch = config.views.lanes, config.batch_size
    deals = _makes_views(config) and not augmix and lanes > 0 and batch > 0
    if deals and (batch % lanes or lanes % devices):
        yield (
            f"config.views.lanes: {lanes}; allowed: a divisor of batch_size={batch} that is a "
            f"multiple of the {devices} devices"
        )


def _source_faults(config):
    """Rules of where shifted images come from."""
    source, sets = config.eval.source, _SOURCES.get(config.eval.source)
    if sets and config.data.name not in sets:
        names = " or ".join(sets)
        yield f"config.eval.source: {source!r} with data.name={config.data.name}; allowed with it: {names}"
    strangers = [name for name in config.eval.corruptions if name in corruptions.CIFAR10_C_BAR]
    if source == "cifar10_corrupted" and strangers:
        yield (
            f"config.eval.corruptions: {', '.join(strangers)} with eval.source={source}; allowed with it: "
            + ", ".join(corruptions.CIFAR10_C)
        )
    if source != "regenerated" and config.data.validation and config.eval.split != "test":
        yield (
            f"config.eval.source: {source!r} with data.validation={config.data.validation}; allowed: "
            "'regenerated', of the images held out (these are test images, which tuning must not see; "
            "--config.eval.split=test evaluates on test images)"
        )
    if source != "regenerated" and config.data.size:
        yield (
            f"config.eval.source: {source!r} with data.size={config.data.size}; allowed: 'regenerated' "
            "(published files are not shrunk)"
        )
    if source != "regenerated" and config.data.cue != "none":
        yield (
            f"config.eval.source: {source!r} with data.cue={config.data.cue}; allowed: 'regenerated' "
            "(published files carry no cue)"
        )
    if source == "cifar10_c" and not config.eval.dir:
        yield "config.eval.dir: empty; eval.source=cifar10_c needs the folder of NAME.npy and labels.npy"
    if source == "regenerated" and config.eval.dir:
        yield (
            f"config.eval.dir: {config.eval.dir!r}; allowed: '' for eval.source=regenerated, which reads no "
            "files (--config.eval.source=cifar10_c reads them)"
        )


def _trained_corruptions(config):
    """The corruptions that the run trains on; () if there is no such method."""
    return methods.trained_corruptions(config) if _is_known(config) else ()


def _trains_teacher(config):
    """Whether the run may have to train its teacher; True if there is no such method."""
    return not _is_known(config) or methods.trains_teacher(config)


def _makes_views(config):
    """Whether the method makes views beside the clean one; True if there is no such method."""
    return not _is_known(config) or methods.makes_views(config)


def _is_known(config):
    """Whether the method, or those that it adds up, are there to be asked."""
    allowed = methods.combinable() if config.method == "combined" else methods.METHODS
    summed = methods.summed(config)
    return bool(summed) and all(name in allowed for name in summed)


# Where evaluated images may come from -> the data sets that they are test images of, None for any.
_SOURCES = {
    "regenerated": None,
    "cifar10_c": None,  # or another data set in its layout, as launch/make_cifar_c.py writes
    "cifar10_corrupted": ("cifar10",),
    "cifar10_1": ("cifar10",),
}

_CHOICES = {
    "method": lambda: methods.METHODS,
    "dtype": lambda: ("float32", "bfloat16"),
    "precision": lambda: models.PRECISIONS,
    "data.name": lambda: data.REGISTRY,
    "data.cue": lambda: data.CUES,
    "student.name": lambda: models.REGISTRY,
    "teacher.name": lambda: models.REGISTRY,
    "teacher.method": lambda: ("erm", "augmix"),
    "views.kind": lambda: views.KINDS,
    "views.corruptions": lambda: corruptions.CIFAR10_C,
    "views.severities": lambda: (1, 2, 3, 4, 5),
    "views.ce_views": lambda: ("clean", "all"),
    "views.distill_views": lambda: ("clean", "all"),
    "views.distill_target": lambda: ("own", "clean"),
    "attention.reduction": lambda: losses.REDUCTIONS,
    "crd.bank": lambda: ("memory", "batch"),
    "contrastive.positives": lambda: losses.POSITIVES,
    "contrastive.anchor": lambda: ("own", "clean"),
    "dealign.kind": lambda: losses.KINDS,
    "dealign.form": lambda: losses.FORMS,
    "reliability.source": lambda: ("teacher", "mean", "shuffled", "oracle"),
    "combined.methods": methods.combinable,
    "eval.split": lambda: ("", "test", "validation"),
    "eval.source": lambda: tuple(_SOURCES),
    "eval.corruptions": lambda: corruptions.NAMES,
    "eval.severities": lambda: (1, 2, 3, 4, 5),
    "eval.adaptation": lambda: ("none", "batch_norm", "tent"),
}

_POSITIVE = ("a number above 0", lambda v: 0 < v < float("inf"))
_NOT_NEGATIVE = ("a number of at least 0", lambda v: 0 <= v < float("inf"))
_SHARE = ("a number in [0, 1]", lambda v: 0 <= v <= 1)
_STAGE = (
    "an integer of at least 1, the number of a stage that both networks have",
    lambda v: isinstance(v, int) and v >= 1,
)
_MOMENTUM = ("a number in [0, 1)", lambda v: 0 <= v < 1)

_RANGES = {
    "seed": ("an integer in [0, 2**31)", lambda v: 0 <= v < 2**31),
    "batch_size": _POSITIVE,
    "epochs": _POSITIVE,
    "data.size": (
        f"0 or an integer of at least {corruptions.LEAST_SIDE}",
        lambda v: v == 0 or corruptions.LEAST_SIDE <= v < float("inf"),
    ),
    "data.cue_correlation": _SHARE,
    "data.validation": _NOT_NEGATIVE,
    "data.max_train": _NOT_NEGATIVE,
    "data.crop_padding": _NOT_NEGATIVE,
    "teacher.seed": ("an integer in [0, 2**31)", lambda v: 0 <= v < 2**31),
    "teacher.epochs": _POSITIVE,
    "teacher.batch_size": _POSITIVE,
    "teacher.learning_rate": _POSITIVE,
    "teacher.momentum": _MOMENTUM,
    "teacher.weight_decay": _NOT_NEGATIVE,
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.momentum": _MOMENTUM,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.skip_nonfinite": _NOT_NEGATIVE,
    "views.count": _NOT_NEGATIVE,
    "views.lanes": _POSITIVE,
    "augmix.severity": ("an integer in [1, 10]", lambda v: 1 <= v <= 10),
    "augmix.width": _POSITIVE,
    "augmix.depth": _NOT_NEGATIVE,
    "augmix.alpha": _POSITIVE,
    "augmix.weight": _NOT_NEGATIVE,
    "kd.weight": _NOT_NEGATIVE,
    "kd.temperature": _POSITIVE,
    "attention.weight": _NOT_NEGATIVE,
    **{
        f"{name}.weight": _NOT_NEGATIVE
        for name in ("fitnets", "sp", "rkd", "pkt", "nst", "vid", "dkd", "dist")
    },
    **dict.fromkeys(("rkd.distance_weight", "rkd.angle_weight", "dkd.alpha", "dkd.beta"), _NOT_NEGATIVE),
    **dict.fromkeys(("dist.beta", "dist.gamma"), _NOT_NEGATIVE),
    **dict.fromkeys(("dkd.temperature", "dist.temperature"), _POSITIVE),
    **dict.fromkeys(("fitnets.stage", "contrastive.stages"), _STAGE),
    "dkd.warmup": ("a number in [0, 1]", lambda v: 0 <= v <= 1),
    "crd.weight": _NOT_NEGATIVE,
    "crd.temperature": _POSITIVE,
    "crd.negatives": _POSITIVE,
    "crd.momentum": _MOMENTUM,
    "contrastive.weight": _NOT_NEGATIVE,
    "contrastive.temperature": _POSITIVE,
    "dealign.weight": _NOT_NEGATIVE,
    "dealign.eps": _POSITIVE,
    "reliability.alpha": _NOT_NEGATIVE,
    "reliability.beta": _NOT_NEGATIVE,
    "reliability.gamma": _SHARE,
    "eval.max_examples": _NOT_NEGATIVE,
    "eval.batch_size": _POSITIVE,
    "eval.adaptation_batch_size": _POSITIVE,
    "eval.adaptation_prior": _NOT_NEGATIVE,
    "eval.adaptation_learning_rate": _POSITIVE,
    "eval.clean_every_epochs": _NOT_NEGATIVE,
    "eval.primary_weights": _NOT_NEGATIVE,
    "checkpoint.every_steps": _POSITIVE,
    "checkpoint.keep": _POSITIVE,
    "log.every_steps": _POSITIVE,
}

# Keys that any value of their type serves.
_FREE_VALUES = (
    "compilation_cache",
    "data.dir",
    "data.flip",
    "teacher.checkpoint",
    "teacher.allow_other_data",
    "teacher.cache",
    "views.allow_overlap",
    "kd.standardize",
    "contrastive.mask_same_class",
    "eval.dir",
    "eval.reference",
    "eval.teacher",
    "log.tensorboard",
    "log.progress",
)

_NOT_EMPTY = (
    "views.corruptions",
    "views.severities",
    "contrastive.stages",
    "combined.methods",
    "eval.corruptions",
    "eval.severities",
)
