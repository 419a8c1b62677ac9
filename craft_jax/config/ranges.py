"""What each key of a configuration may be by itself, as tables; `rules` reads them."""

from craft_jax import corruptions, data, losses, methods, models, views

# Where evaluated images may come from -> the data sets that they are test images of, None for any.
SOURCES = {
    "regenerated": None,
    "cifar10_c": None,  # or another data set in its layout, as launch/make_cifar_c.py writes
    "cifar10_corrupted": ("cifar10",),
    "cifar10_1": ("cifar10",),
    "imagenet_c": ("imagenet2012", "folder"),
}

SCHEDULES = ("cosine", "drops")

CHOICES = {
    "method": lambda: methods.METHODS,
    "dtype": lambda: ("float32", "bfloat16"),
    "precision": lambda: models.PRECISIONS,
    "data.name": lambda: data.REGISTRY,
    "data.crop": lambda: views.CROPS,
    "data.cue": lambda: data.CUES,
    "data.streaming": lambda: data.STREAMING,
    "student.name": lambda: models.REGISTRY,
    "teacher.name": lambda: models.REGISTRY,
    "teacher.method": lambda: ("erm", "augmix"),
    "teacher.schedule": lambda: SCHEDULES,
    "optimizer.schedule": lambda: SCHEDULES,
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
    "eval.source": lambda: tuple(SOURCES),
    "eval.corruptions": lambda: corruptions.NAMES,
    "eval.severities": lambda: (1, 2, 3, 4, 5),
    "eval.adaptation": lambda: ("none", "batch_norm", "tent"),
}

_POSITIVE = ("a number above 0", lambda v: 0 < v < float("inf"))
_NOT_NEGATIVE = ("a number of at least 0", lambda v: 0 <= v < float("inf"))
_UP_TO_ONE = ("a number in (0, 1]", lambda v: 0 < v <= 1)
_SHARE = ("a number in [0, 1]", lambda v: 0 <= v <= 1)
_STAGE = (
    "an integer of at least 1, the number of a stage that both networks have",
    lambda v: isinstance(v, int) and v >= 1,
)
_MOMENTUM = ("a number in [0, 1)", lambda v: 0 <= v < 1)

RANGES = {
    "seed": ("an integer in [0, 2**31)", lambda v: 0 <= v < 2**31),
    "batch_size": _POSITIVE,
    "epochs": _POSITIVE,
    "label_smoothing": ("a number in [0, 1)", lambda v: 0 <= v < 1),
    "data.size": (
        f"0 or an integer of at least {corruptions.LEAST_SIDE}",
        lambda v: v == 0 or corruptions.LEAST_SIDE <= v < float("inf"),
    ),
    "data.cue_correlation": _SHARE,
    "data.validation": _NOT_NEGATIVE,
    "data.max_train": _NOT_NEGATIVE,
    "data.memory_gb": _NOT_NEGATIVE,
    "data.workers": _NOT_NEGATIVE,
    "data.crop_padding": _NOT_NEGATIVE,
    "data.crop_scale": _UP_TO_ONE,
    "data.test_crop": _UP_TO_ONE,
    "teacher.seed": ("an integer in [0, 2**31)", lambda v: 0 <= v < 2**31),
    "teacher.epochs": _POSITIVE,
    "teacher.batch_size": _POSITIVE,
    "teacher.learning_rate": _POSITIVE,
    "teacher.momentum": _MOMENTUM,
    "teacher.weight_decay": _NOT_NEGATIVE,
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.momentum": _MOMENTUM,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.warmup_epochs": _NOT_NEGATIVE,
    "optimizer.drop_epochs": ("integers of at least 1", lambda v: v >= 1),
    "optimizer.drop_factor": ("a number in (0, 1)", lambda v: 0 < v < 1),
    "optimizer.clip_norm": _NOT_NEGATIVE,
    "optimizer.accumulate_steps": _POSITIVE,
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
    "contrastive.block": _NOT_NEGATIVE,
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
    "distributed.processes": _NOT_NEGATIVE,
    "distributed.process": _NOT_NEGATIVE,
}

# Keys that any value of their type serves.
FREE_VALUES = (
    "compilation_cache",
    "data.dir",
    "data.flip",
    "student.checkpoint",
    "student.remat",
    "teacher.checkpoint",
    "teacher.allow_other_data",
    "teacher.cache",
    "optimizer.nesterov",
    "views.allow_overlap",
    "kd.standardize",
    "contrastive.mask_same_class",
    "eval.dir",
    "eval.reference",
    "eval.teacher",
    "log.tensorboard",
    "log.progress",
    "distributed.detect",
    "distributed.coordinator",
)

NOT_EMPTY = (
    "views.corruptions",
    "views.severities",
    "contrastive.stages",
    "combined.methods",
    "optimizer.drop_epochs",
    "eval.corruptions",
    "eval.severities",
)
