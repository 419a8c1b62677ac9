"""The range or the choices of each key alone.

The tests that go over all keys take them from configs/default.py, so a new key is under test when it is
added: a number must have a range, a name must have its choices.
"""

import pytest

from craft_jax import corruptions, losses, methods, models
from tests.config.loaded import DEFAULT, faults, faults_at, keys_of, load

# Text that nothing can check before the data is there: paths.
PATHS = {
    "data.dir",
    "student.checkpoint",
    "teacher.checkpoint",
    "teacher.cache",
    "eval.dir",
    "eval.reference",
    "distributed.coordinator",
}


@pytest.mark.parametrize("key", keys_of(int, float))
def test_a_number_has_a_range(key):
    for bad in (-1, -(2**40)):
        lines = faults_at(load(**{key.replace(".", "__"): type(DEFAULT[key])(bad)}), key)
        assert lines and all(str(bad) in line and "allowed: " in line for line in lines), key
    if isinstance(DEFAULT[key], float):
        for bad in (float("nan"), float("inf"), float("-inf")):
            assert faults_at(load(**{key.replace(".", "__"): bad}), key), f"{key}={bad}"


@pytest.mark.parametrize("key", [k for k in keys_of(str) if k not in PATHS])
def test_a_name_has_its_choices(key):
    for bad in ("no_such_name", *([""] if DEFAULT[key] else []), DEFAULT[key].upper() + "_"):
        (line,) = faults_at(load(**{key.replace(".", "__"): bad}), key)
        assert repr(bad) in line and "allowed: " in line
        allowed = line.partition("allowed: ")[2].split(", ")
        assert (DEFAULT[key] or "''") in allowed
        assert bad not in allowed


@pytest.mark.parametrize("key", keys_of(tuple))
def test_a_tuple_refuses_strangers_repeats_and_nothing(key):
    default = DEFAULT[key]
    stranger = "no_such_name" if isinstance(default[0], str) else type(default[0])(-7)
    for bad in ((*default, stranger), (*default, default[0]), ()):
        lines = faults_at(load(**{key.replace(".", "__"): bad}), key)
        assert lines and ("allowed: " in lines[0] or "twice" in lines[0]), f"{key}={bad}"
        assert "Error" not in lines[0]


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("method", sorted(methods.METHODS)),
        ("dtype", ["float32", "bfloat16"]),
        ("precision", ["default", "highest"]),
        ("data.name", ["cifar10", "cifar100", "digits", "npz", "folder", "imagenet2012"]),
        ("data.crop", ["padded", "resized"]),
        ("data.cue", ["none", "corner", "color"]),
        ("data.streaming", ["auto", "always", "never"]),
        ("student.name", models.REGISTRY),  # evaluated below: tests/conftest.py adds one
        ("teacher.name", models.REGISTRY),
        ("teacher.method", ["erm", "augmix"]),
        ("views.kind", ["corruptions", "augmix"]),
        ("views.corruptions", list(corruptions.CIFAR10_C)),
        ("views.severities", list("12345")),
        ("views.ce_views", ["clean", "all"]),
        ("views.distill_views", ["clean", "all"]),
        ("views.distill_target", ["own", "clean"]),
        ("contrastive.positives", list(losses.POSITIVES)),
        ("contrastive.anchor", ["own", "clean"]),
        ("combined.methods", [name for name in methods.METHODS if name not in ("erm", "combined")]),
        ("dealign.kind", list(losses.KINDS)),
        ("dealign.form", list(losses.FORMS)),
        ("reliability.source", ["teacher", "mean", "shuffled", "oracle"]),
        ("eval.split", ["", "test", "validation"]),
        ("eval.source", ["regenerated", "cifar10_c", "cifar10_corrupted", "cifar10_1", "imagenet_c"]),
        ("eval.corruptions", list(corruptions.NAMES)),
        ("eval.severities", list("12345")),
        ("eval.adaptation", ["none", "batch_norm", "tent"]),
    ],
)
def test_a_choice_lists_what_is_allowed_and_takes_it(key, allowed):
    default = DEFAULT[key]
    kind = type(default[0] if isinstance(default, tuple) else default)
    stranger = 9 if kind is int else "nope"
    bad = (stranger,) if isinstance(default, tuple) else stranger
    (line,) = faults_at(load(**{key.replace(".", "__"): bad}), key)
    assert sorted(line.partition("allowed: ")[2].split(", ")) == sorted(name or "''" for name in allowed)
    for name in allowed:
        value = (kind(name),) if isinstance(default, tuple) else kind(name)
        config = load(views__allow_overlap=True, **{key.replace(".", "__"): value})
        assert not [line for line in faults_at(config, key) if "unknown" in line]


@pytest.mark.parametrize(
    ("key", "bad", "good"),
    [
        ("seed", [-1, 2**31], [0, 2**31 - 1]),
        ("teacher.seed", [-1, 2**31], [0, 2**31 - 1]),
        ("batch_size", [0], [8]),
        ("epochs", [0], [1]),
        ("data.size", [-1, 1, 15], [0, 16, 32]),
        ("data.validation", [-1], [0, 5000]),
        ("data.max_train", [-1], [0, 2000]),
        ("data.memory_gb", [-1.0], [0.0, 0.5]),
        ("data.workers", [-2], [0, 8]),
        ("data.crop_padding", [-1], [0, 4]),
        ("data.crop_scale", [(0.0, 1.0), (0.5, 1.1)], [(0.08, 1.0), (1.0, 1.0)]),
        ("data.test_crop", [0.0, 1.5], [1.0]),
        ("optimizer.accumulate_steps", [0], [1, 2, 8]),
        ("data.cue_correlation", [-0.1, 1.1], [0.0, 0.5, 1.0]),
        ("teacher.epochs", [0], [1]),
        ("teacher.batch_size", [0], [8]),
        ("teacher.learning_rate", [0.0], [1e-9]),
        ("teacher.momentum", [1.0], [0.0, 0.999]),
        ("teacher.weight_decay", [-1e-9], [0.0]),
        ("optimizer.learning_rate", [0.0], [1e-9]),
        ("optimizer.momentum", [1.0, 1.5], [0.0, 0.999]),
        ("optimizer.weight_decay", [-1e-9], [0.0]),
        ("optimizer.warmup_epochs", [-0.5], [0.0, 0.5, 5.0]),
        ("optimizer.drop_epochs", [(0, 5), (-1,)], [(1,), (5, 7)]),
        ("optimizer.drop_factor", [0.0, 1.0], [0.1, 0.99]),
        ("optimizer.clip_norm", [-1.0], [0.0, 5.0]),
        ("label_smoothing", [-0.1, 1.0], [0.0, 0.1]),
        ("views.count", [-1], [0, 1, 5]),
        ("views.lanes", [0, -8], [1, 128]),
        ("augmix.severity", [0, 11], [1, 10]),
        ("augmix.width", [0], [1, 5]),
        ("augmix.depth", [-1], [0, 1, 4]),
        ("augmix.alpha", [0.0], [0.1, 10.0]),
        ("augmix.weight", [-1e-9], [0.0]),
        ("kd.weight", [-1e-9], [0.0]),
        ("kd.temperature", [0.0], [0.5]),
        ("contrastive.weight", [-0.5], [0.0]),
        ("contrastive.temperature", [0.0], [0.01]),
        ("contrastive.block", [-1], [0, 1, 1000]),
        ("contrastive.stages", [(0,), (1, -1), (1.5,), ("2",)], [(1,), (2, 5)]),
        ("fitnets.stage", [0, -1], [1, 4, 5]),
        ("dealign.weight", [-0.5], [0.0]),
        ("dealign.eps", [0.0], [1e-12]),
        ("reliability.alpha", [-0.1], [0.0]),
        ("reliability.beta", [-0.1], [0.0]),
        ("reliability.gamma", [-0.1, 1.1], [0.0, 1.0]),
        ("eval.max_examples", [-1], [0, 1]),
        ("eval.batch_size", [0], [1, 500]),
        ("eval.adaptation_batch_size", [0], [1, 200]),
        ("eval.adaptation_prior", [-0.5], [0.0, 16.0]),
        ("eval.adaptation_learning_rate", [0.0], [1e-9]),
        ("eval.clean_every_epochs", [-1], [0, 1]),
        ("checkpoint.every_steps", [0], [1]),
        ("checkpoint.keep", [0], [1]),
        ("log.every_steps", [0], [1]),
    ],
)
def test_ranges_at_their_edges(key, bad, good):
    for value in bad:
        lines = faults_at(load(**{key.replace(".", "__"): value}), key)
        assert lines, value
        assert repr(value) in lines[0] and "allowed: " in lines[0]
    for value in good:
        assert faults_at(load(**{key.replace(".", "__"): value}), key) == []


@pytest.mark.parametrize("weights", [(1.0,), (0.2, 0.3, 0.5), (0.5, 0.6), (1.5, -0.5), ()])
def test_primary_weights(weights):
    assert faults_at(load(eval__primary_weights=weights), "eval.primary_weights")


def test_primary_weights_that_sum_to_one():
    for weights in ((0.0, 1.0), (1.0, 0.0), (0.1, 0.9), (1 / 3, 2 / 3)):
        assert faults(load(eval__primary_weights=weights)) == []
