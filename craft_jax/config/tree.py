"""Configurations as trees of keys: flattened, stored, compared; and that of a run's teacher."""

import json

import ml_collections

# Keys that may differ when a working directory is used again: where things lie and what is printed,
# never what is trained. A teacher is its parameters, wherever they lie (`runs.directory`).
FREE_KEYS = (
    *("eval.", "data.dir", "log.", "checkpoint.", "views.allow_overlap"),
    *("teacher.cache", "teacher.checkpoint", "compilation_cache", "distributed."),
    *("data.streaming", "data.memory_gb", "data.workers"),
)

# Keys that say what a trained network is, as the teacher's run has them: what its cache is named by.
TEACHER_KEYS = (
    "seed",
    "dtype",
    "batch_size",
    "epochs",
    "data.name",
    "data.validation",
    "data.crop_padding",
    "data.flip",
    "student.name",
    "optimizer.learning_rate",
    "optimizer.momentum",
    "optimizer.weight_decay",
)

# What an AugMix teacher is, beside these. An ERM teacher's name leaves them out: it reads none of them.
AUGMIX_TEACHER_KEYS = (
    "method",
    "views.kind",
    "views.count",
    "augmix.severity",
    "augmix.width",
    "augmix.depth",
    "augmix.alpha",
    "augmix.weight",
)


# Keys that configurations stored by older versions lack, by their section, and what those versions did.
_ADDED = {
    "": {
        "precision": "default",
        "compilation_cache": True,
        "label_smoothing": 0.0,
        "fitnets": {"weight": 100.0, "stage": 2},
        "sp": {"weight": 3000.0},
        "rkd": {"weight": 1.0, "distance_weight": 25.0, "angle_weight": 50.0},
        "pkt": {"weight": 30000.0},
        "nst": {"weight": 50.0},
        "vid": {"weight": 1.0},
        "dkd": {"weight": 1.0, "alpha": 1.0, "beta": 8.0, "temperature": 4.0, "warmup": 1 / 12},
        "dist": {"weight": 1.0, "beta": 2.0, "gamma": 2.0, "temperature": 4.0},
        "combined": {"methods": ["kd", "crd"]},
        "distributed": {"detect": False, "processes": 0, "process": 0, "coordinator": ""},
    },
    "data": {
        **{"size": 0, "cue": "none", "cue_correlation": 0.9},
        **{"streaming": "auto", "memory_gb": 0.0, "workers": 16},
        **{"crop": "padded", "crop_scale": [0.08, 1.0], "test_crop": 1.0},
    },
    "kd": {"standardize": False},
    "contrastive": {"block": 0},
    "eval": {
        **{"split": "", "adaptation": "none", "adaptation_batch_size": 200},
        **{"adaptation_prior": 16.0, "adaptation_learning_rate": 1e-3},
    },
    "optimizer": {
        **{"nesterov": False, "warmup_epochs": 0.0, "clip_norm": 0.0, "skip_nonfinite": 0},
        **{"schedule": "cosine", "drop_epochs": [150, 180, 210], "drop_factor": 0.1},
        "accumulate_steps": 1,
    },
    "student": {"checkpoint": "", "remat": False},
    "teacher": {"schedule": "cosine"},
    "reliability": {"source": "teacher"},
}


# Options of a student's training, at what a teacher trained on the way has in their place.
_STUDENTS_OWN = {
    "": {"label_smoothing": 0.0},
    "student": {"checkpoint": "", "remat": False},
    "optimizer": {
        **{"nesterov": False, "warmup_epochs": 0.0, "clip_norm": 0.0, "skip_nonfinite": 0},
        "accumulate_steps": 1,
    },
}


def flatten(config, prefix=""):
    """A ConfigDict as {dotted key: value}."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def to_json(config):
    """A ConfigDict as JSON-able nested dicts (tuples become lists), but for the processes that read it."""
    tree = json.loads(json.dumps(config.to_dict()))
    tree.pop("distributed", None)  # of this command alone: what reads the file may be one process
    return tree


def from_json(tree):
    """The inverse of `to_json`: a locked ConfigDict, lists as tuples; with the keys that came since."""

    def convert(value):
        if isinstance(value, dict):
            return ml_collections.ConfigDict({k: convert(v) for k, v in value.items()})
        return tuple(value) if isinstance(value, list) else value

    added = {name: keys | tree[name] for name, keys in _ADDED.items() if isinstance(tree.get(name), dict)}
    return convert(_ADDED[""] | tree | added).lock()


def differences(old, new):
    """The keys outside FREE_KEYS in which two configurations differ, one line each."""
    a, b = flatten(old), flatten(new)
    keys = [k for k in sorted(a.keys() | b.keys()) if not k.startswith(FREE_KEYS)]
    absent = "(absent)"
    return [
        f"config.{k}: {a.get(k, absent)!r} in the working directory, {b.get(k, absent)!r} now"
        for k in keys
        if a.get(k, absent) != b.get(k, absent)
    ]


def teacher_config(config):
    """The configuration of the run that trains `config`'s teacher, on `config.teacher`'s recipe."""
    config = ml_collections.ConfigDict(config.to_dict()).unlock()
    config.method = config.teacher.method
    config.student.name = config.teacher.name
    config.seed = config.teacher.seed
    config.epochs = config.teacher.epochs
    config.batch_size = config.teacher.batch_size
    config.optimizer.learning_rate = config.teacher.learning_rate
    config.optimizer.momentum = config.teacher.momentum
    config.optimizer.weight_decay = config.teacher.weight_decay
    config.optimizer.schedule = config.teacher.schedule
    for section, keys in _STUDENTS_OWN.items():
        (config[section] if section else config).update(keys)
    config.teacher.checkpoint = ""
    config.views.ce_views = "clean"
    config.eval.reference = ""  # the student's
    if config.method == "augmix":
        config.views.kind, config.views.count = "augmix", 2
    return config.lock()


def teacher_recipe(wanted):
    """How the teacher of a `teacher_config` is made, the data aside: {dotted key: value}."""
    keys = TEACHER_KEYS if wanted.method == "erm" else (*TEACHER_KEYS, *AUGMIX_TEACHER_KEYS)
    flat = flatten(wanted)
    identity = {key: flat[key] for key in keys}
    # At their defaults these say how teachers were trained before the keys came: those keep their names.
    if wanted.precision != "default":
        identity["precision"] = wanted.precision
    if wanted.data.crop != "padded":
        identity |= {key: flat[key] for key in ("data.crop", "data.crop_scale")}
    if wanted.optimizer.schedule != "cosine":
        drops = ("optimizer.schedule", "optimizer.drop_epochs", "optimizer.drop_factor")
        identity |= {key: flat[key] for key in drops}
    return identity
