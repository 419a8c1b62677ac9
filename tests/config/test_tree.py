"""A configuration as JSON, beside another one, and as the one that trains the run's teacher."""

import json

import ml_collections
import pytest

from craft_jax import methods
from craft_jax.config import reader, rules, tree
from craft_jax.errors import ConfigError
from tests.config.loaded import DEFAULT, PRESETS, ROOT, assign, faults, load

# ----------------------------------------------------------------------------------------------------
# JSON and comparison


def test_a_configuration_without_a_key_is_a_config_error():
    """As an older version's config.json, or a user's file that does not start from configs/default.py."""
    stored = tree.to_json(load())
    del stored["kd"]["temperature"], stored["log"]
    with pytest.raises(ConfigError) as error:
        rules.validate(tree.from_json(stored))
    for key in ("kd.temperature", "log.every_steps", "log.progress", "log.tensorboard"):
        assert f"config.{key}" in str(error.value)


def test_a_configuration_stored_before_a_key_was_added_says_what_was_done_then():
    stored = tree.to_json(load(precision="highest"))
    assert tree.from_json(stored).precision == "highest"
    del stored["precision"]
    rules.validate(tree.from_json(stored))
    assert tree.differences(tree.from_json(stored), load()) == []
    assert len(tree.differences(tree.from_json(stored), load(precision="highest"))) == 1
    del stored["compilation_cache"], stored["data"]["size"], stored["eval"]["split"]
    back = tree.from_json(stored)
    assert (back.compilation_cache, back.data.size, back.eval.split) == (True, 0, "")
    assert back.data.max_train == 0 and back.eval.source == "regenerated"  # what else was there stays
    for section in ("fitnets", "sp", "rkd", "pkt", "nst", "vid", "dkd", "dist", "combined"):
        del stored[section]
    del stored["kd"]["standardize"], stored["contrastive"]["block"]
    assert not tree.differences(tree.from_json(stored), load())  # no method read them
    assert not tree.differences(tree.from_json(stored), load(compilation_cache=False))  # it may differ


def test_json_round_trip():
    config = load(seed=3, views__severities=(1, 5), data__dir="/tmp/ä b")
    text = json.dumps(tree.to_json(config))
    back = tree.from_json(json.loads(text))
    assert tree.flatten(back) == tree.flatten(config)
    types = {k: type(v) for k, v in tree.flatten(config).items()}
    assert {k: type(v) for k, v in tree.flatten(back).items()} == types
    assert back.is_locked and back.views.is_locked
    assert faults(back) == []
    assert tree.differences(config, back) == []


def test_flatten():
    config = ml_collections.ConfigDict({"a": 1, "b": {"c": (1, 2), "d": {"e": ""}}})
    assert tree.flatten(config) == {"a": 1, "b.c": (1, 2), "b.d.e": ""}


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    return (*value, value[0]) if isinstance(value, tuple) else value + 1


@pytest.mark.parametrize("key", list(DEFAULT))
def test_differences(key):
    old, new = load(), load()
    assign(new, key, changed(tree.flatten(old)[key]))
    free = key.split(".")[0] in ("eval", "log", "checkpoint", "distributed")
    free = free or key in ("data.dir", "views.allow_overlap", "teacher.cache", "teacher.checkpoint")
    free = free or key == "compilation_cache"  # where programs are kept
    free = free or key in ("data.streaming", "data.memory_gb", "data.workers")  # where images are
    lines = tree.differences(old, new)
    if free:
        assert lines == []
    else:
        (line,) = lines
        a, b = tree.flatten(old)[key], tree.flatten(new)[key]
        assert line == f"config.{key}: {a!r} in the working directory, {b!r} now"


def test_differences_lists_all_and_absent_keys():
    old, new = load("erm.py", seed=1, eval__batch_size=7), load("craft.py")
    with new.unlocked():
        new.extra = 3
        del new.kd.weight
    assert tree.differences(old, new) == [
        "config.extra: '(absent)' in the working directory, 3 now",
        "config.kd.weight: 1.0 in the working directory, '(absent)' now",
        "config.method: 'erm' in the working directory, 'craft' now",
        "config.seed: 1 in the working directory, 0 now",
    ]


# ----------------------------------------------------------------------------------------------------
# The teacher's configuration

RECIPE = {  # the teacher's key and what it becomes in the run that trains the teacher
    "teacher.name": ("student.name", "wrn-40-2"),
    "teacher.seed": ("seed", 5),
    "teacher.epochs": ("epochs", 17),
    "teacher.batch_size": ("batch_size", 64),
    "teacher.learning_rate": ("optimizer.learning_rate", 0.03),
    "teacher.momentum": ("optimizer.momentum", 0.8),
    "teacher.weight_decay": ("optimizer.weight_decay", 1e-4),
}


def test_teacher_config_is_the_teachers_recipe():
    config = load("craft.py", teacher__checkpoint="somewhere", data__validation=50, dtype="bfloat16")
    config.views.ce_views = config.views.distill_views = "all"
    before = tree.flatten(config)
    for key, (_, value) in RECIPE.items():
        assign(config, key, value)
    wanted = tree.teacher_config(config)
    flat = tree.flatten(wanted)
    assert {k: flat[k] for k, _ in RECIPE.values()} == dict(RECIPE.values())
    assert wanted.method == "erm" and wanted.views.ce_views == "clean"
    assert methods.METHODS["erm"].views(wanted) == (1, 0), "a teacher sees clean images and no teacher"
    assert wanted.teacher.checkpoint == "" and wanted.is_locked
    # All else is the run's own: the data, the precision, what is evaluated.
    kept = before.keys() - {k for k, _ in RECIPE.values()} - RECIPE.keys()
    kept -= {"method", "views.ce_views", "teacher.checkpoint"}
    assert {k: flat[k] for k in kept} == {k: before[k] for k in kept}
    # And the run's configuration is as it was.
    assert (config.method, config.seed, config.teacher.checkpoint) == ("craft", 0, "somewhere")


def test_an_augmix_teacher_has_its_papers_views_whatever_the_students():
    config = load("kd.py", teacher__method="augmix", views__count=5, augmix__severity=4)
    wanted = tree.teacher_config(config)
    assert (wanted.method, wanted.views.kind, wanted.views.count) == ("augmix", "augmix", 2)
    assert (wanted.augmix.severity, wanted.views.ce_views) == (4, "clean")
    assert methods.METHODS["augmix"].views(wanted) == (3, 0)
    assert faults(config) == faults(wanted) == []
    # An AugMix student's teacher is plain, unless asked for.
    assert tree.teacher_config(load("augmix.py")).method == "erm"


def recipe(config):
    return tree.teacher_recipe(tree.teacher_config(config))


def test_teacher_recipe_follows_the_teachers_keys_and_the_data_alone():
    base = recipe(load("craft.py"))
    for key, (becomes, value) in RECIPE.items():
        moved = recipe(load("craft.py", **{key.replace(".", "__"): value}))
        assert {k for k in base if moved[k] != base[k]} == {becomes}
    shared = ("dtype", "data.name", "data.validation", "data.crop_padding", "data.flip")
    later = ("teacher.method", "teacher.schedule", "precision", "data.crop")
    for key, value in DEFAULT.items():
        if key in shared or key in RECIPE or key in later:
            continue
        moved = recipe(load("craft.py", **{key.replace(".", "__"): changed(value)}))
        assert moved == base, f"{key} is not the teacher's"
    for key in shared:
        moved = recipe(load("craft.py", **{key.replace(".", "__"): changed(DEFAULT[key])}))
        assert {k for k in base if moved[k] != base[k]} == {key}
    # Keys that came later: left out where they say what was done before.
    assert recipe(load("craft.py", precision="highest")) == base | {"precision": "highest"}
    resized = {"data.crop": "resized", "data.crop_scale": (0.08, 1.0)}
    assert recipe(load("craft.py", data__crop="resized")) == base | resized
    drops = {"schedule": "drops", "drop_epochs": (150, 180, 210), "drop_factor": 0.1}
    assert recipe(load("craft.py", teacher__schedule="drops")) == base | {
        f"optimizer.{key}": value for key, value in drops.items()
    }


def test_an_augmix_teacher_is_what_it_reads_too():
    base, plain = recipe(load("craft.py", teacher__method="augmix")), recipe(load("craft.py"))
    assert base["method"] == "augmix" and base | plain == base
    reads = {key for key in DEFAULT if key.startswith("augmix.")}
    for key, value in DEFAULT.items():
        if key.startswith(("augmix.", "views.", "kd.")) or key == "method":
            other = load("craft.py", teacher__method="augmix", **{key.replace(".", "__"): changed(value)})
            moved = {k for k in base if recipe(other)[k] != base[k]}
            assert moved == ({key} & reads), key


def test_teacher_file_is_the_teacher_of_the_others():
    for preset in ("", *PRESETS):
        own = reader.load(f"{ROOT / 'configs' / 'teacher.py'}:{preset}")
        wanted = tree.teacher_config(reader.load(f"{ROOT / 'configs' / 'craft.py'}:{preset}"))
        assert tree.differences(own, wanted) == []


def test_a_valid_run_has_a_valid_teacher():
    """Or the run would stop after it has begun, with an error about a key that is right."""
    config = load("kd.py", teacher__batch_size=100)
    assert faults(config) == []
    assert faults(tree.teacher_config(config)) == []
