"""Every rule of a configuration that needs no data: what keys may be (`ranges`), what ties them together."""

import jax

from craft_jax import corruptions, data, methods, models
from craft_jax.config.ranges import CHOICES, FREE_VALUES, NOT_EMPTY, RANGES, SOURCES
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
    if missing := _missing(flat):
        yield from missing  # the other rules read these keys
        return
    for key, allowed in CHOICES.items():
        values = flat[key] if isinstance(flat[key], tuple) else (flat[key],)
        names = ", ".join(str(name) or "''" for name in allowed())
        bad = [v for v in values if v not in allowed()]
        for_tests = [v for v in bad if key == "views.corruptions" and v in corruptions.CIFAR10_C_BAR]
        unknown = [v for v in bad if v not in for_tests]
        for refused, why in ((unknown, "is unknown"), (for_tests, "is CIFAR-10-C-bar's, never trained on")):
            if refused:
                yield f"config.{key}: {', '.join(map(repr, refused))} {why}; allowed: {names}"
    yield from _out_of_range(flat, RANGES)
    for key in NOT_EMPTY:
        if not flat[key]:
            yield f"config.{key}: empty; allowed: at least one"
        elif len(set(flat[key])) < len(flat[key]):
            yield f"config.{key}: {flat[key]!r} names one twice"
    yield from _joint_faults(config)
    yield from _distributed_faults(config)
    if training:
        yield from _training_faults(config)


def _out_of_range(flat, keys):
    for key in keys:
        rule, holds = RANGES[key]
        values = flat[key] if isinstance(flat[key], tuple) else (flat[key],)
        if not all(holds(v) for v in values):
            yield f"config.{key}: {flat[key]!r}; allowed: {rule}"


def _missing(flat):
    """A line for each key that a configuration of another version, or a part of one, lacks."""
    told = "missing; configs/default.py has every key, and a method of your own needs a name that it has not"
    return [f"config.{key}: {told}" for key in (*CHOICES, *RANGES, *FREE_VALUES) if key not in flat]


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
    if config.data.name in data.OF_SIZE and config.data.size == 0:
        yield (
            f"config.data.size: 0; data.name={config.data.name} needs the side that pictures are resized to, "
            f"at least {corruptions.LEAST_SIDE}"
        )
    if config.data.name not in data.OF_SIZE and config.data.test_crop != 1:
        sets = " or ".join(data.OF_SIZE)
        yield f"config.data.test_crop: {config.data.test_crop}; allowed: 1.0, but with data.name={sets}"
    scale = config.data.crop_scale
    if len(scale) != 2 or scale[0] > scale[1]:
        yield f"config.data.crop_scale: {scale!r}; allowed: two numbers, the least share first"
    yield from _streaming_faults(config)
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
    parts = config.optimizer.accumulate_steps
    if config.batch_size > 0 and parts > 0 and config.batch_size % (devices * parts):
        split = f" times optimizer.accumulate_steps={parts}" if parts > 1 else ""
        yield f"config.batch_size: {config.batch_size}; allowed: a multiple of the {devices} devices{split}"
    taught_by = config.teacher.batch_size
    if _trains_teacher(config) and taught_by > 0 and taught_by % devices:
        yield f"config.teacher.batch_size: {taught_by}; allowed: a multiple of the {devices} devices"
    student = config.student.name
    if config.student.remat and student in models.REGISTRY and not models.can_remat(student):
        yield f"config.student.remat: True; allowed: False, since the network {student} takes no `remat`"
    yield from _schedule_faults(config)
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


def _schedule_faults(config):
    """Rules of the optimizer's schedule, and of that of a teacher trained on the way."""
    optimizer, drops = config.optimizer, config.optimizer.drop_epochs
    if optimizer.nesterov and optimizer.momentum == 0:
        yield "config.optimizer.momentum: 0.0; allowed with optimizer.nesterov: a number in (0, 1)"
    if optimizer.warmup_epochs >= config.epochs > 0:
        yield (
            f"config.optimizer.warmup_epochs: {optimizer.warmup_epochs!r}; "
            f"allowed: less than the {config.epochs} epochs"
        )
    if list(drops) != sorted(drops):
        yield f"config.optimizer.drop_epochs: {drops!r}; allowed: increasing numbers"
    runs = {"epochs": (optimizer.warmup_epochs, config.epochs)} if optimizer.schedule == "drops" else {}
    if config.teacher.schedule == "drops" and _trains_teacher(config):
        runs["teacher.epochs"] = 0, config.teacher.epochs
    for key, (warm, epochs) in runs.items():
        if drops and not warm < min(drops) <= max(drops) < epochs:
            yield (
                f"config.optimizer.drop_epochs: {drops!r}; allowed with {key}={epochs}: epochs after the "
                "warm-up and before the end"
            )


def validate_distributed(config):
    """Check how the processes of the run find each other: before they do, and so before any other rule.

    Raises:
      ConfigError: its message lists every fault.
    """
    flat = flatten(config)
    counts = [key for key in RANGES if key.startswith("distributed.")]
    _refuse(_missing(flat) or [*_out_of_range(flat, counts), *_distributed_faults(config)])


def _distributed_faults(config):
    """Rules of the keys that name the processes of a run."""
    address, count = config.distributed.coordinator, config.distributed.processes
    process = config.distributed.process
    if config.distributed.detect and (address or count or process):
        yield (
            "config.distributed.detect: True with distributed.processes, .process or .coordinator; allowed: "
            "either"
        )
    elif count > 0 or address:
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 2**16):
            yield (
                f"config.distributed.coordinator: {address!r}; allowed with distributed.processes={count}: "
                "HOST:PORT"
            )
        if count == 0:
            yield f"config.distributed.processes: {count}; allowed with distributed.coordinator: at least 1"
    if not config.distributed.detect and process >= max(count, 1):
        yield f"config.distributed.process: {process}; allowed: less than distributed.processes={count}"


def _streaming_faults(config):
    """Rules of images that stay in their files."""
    if config.data.streaming != "always":
        return
    if config.data.name not in data.STREAMED:
        names = ", ".join(data.STREAMED)
        yield f"config.data.streaming: 'always' with data.name={config.data.name}; allowed with it: {names}"
    if config.data.cue != "none":
        yield f"config.data.streaming: 'always' with data.cue={config.data.cue}; allowed with it: none"


def _source_faults(config):
    """Rules of where shifted images come from."""
    source, sets = config.eval.source, SOURCES.get(config.eval.source)
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
    if source not in ("regenerated", "imagenet_c") and config.data.size:
        yield (
            f"config.eval.source: {source!r} with data.size={config.data.size}; allowed: 'regenerated' "
            "(published files are not shrunk)"
        )
    if source != "regenerated" and config.data.cue != "none":
        yield (
            f"config.eval.source: {source!r} with data.cue={config.data.cue}; allowed: 'regenerated' "
            "(published files carry no cue)"
        )
    folders = {"cifar10_c": "NAME.npy and labels.npy", "imagenet_c": "NAME/SEVERITY/CLASS/*.JPEG"}
    if source in folders and not config.eval.dir:
        yield f"config.eval.dir: empty; eval.source={source} needs the folder of {folders[source]}"
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
