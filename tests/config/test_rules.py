"""What several keys must be together: views, batches, schedules, processes; all faults in one error."""

import jax
import pytest

from craft_jax.config import rules, tree
from craft_jax.errors import ConfigError
from tests.config.loaded import faults, faults_at, load


@pytest.mark.parametrize(
    ("settings", "key", "allowed"),
    [
        ({"optimizer__nesterov": True, "optimizer__momentum": 0.0}, "optimizer.momentum", "nesterov"),
        ({"optimizer__warmup_epochs": 200.0}, "optimizer.warmup_epochs", "less than the 200 epochs"),
        ({"optimizer__drop_epochs": (9, 5)}, "optimizer.drop_epochs", "increasing"),
        ({"optimizer__drop_epochs": ()}, "optimizer.drop_epochs", "at least one"),
        ({"optimizer__schedule": "drops"}, "optimizer.drop_epochs", "epochs=200: epochs after the warm-up"),
        ({"method": "kd", "teacher__schedule": "drops"}, "optimizer.drop_epochs", "teacher.epochs=200"),
        (
            {
                "optimizer__schedule": "drops",
                "optimizer__drop_epochs": (5,),
                "optimizer__warmup_epochs": 5.0,
            },
            "optimizer.drop_epochs",
            "after the warm-up",
        ),
    ],
)
def test_a_schedule_that_does_not_fit_the_run(settings, key, allowed):
    (line,) = faults_at(load(**settings), key)
    assert allowed in line


@pytest.mark.parametrize(
    ("settings", "key", "allowed"),
    [
        ({"data__test_crop": 0.5}, "data.test_crop", "but with data.name=folder or imagenet2012"),
        ({"data__crop_scale": (0.5, 0.1)}, "data.crop_scale", "the least share first"),
        ({"data__crop_scale": (0.5,)}, "data.crop_scale", "two numbers"),
        ({"data__name": "imagenet2012"}, "data.size", "the side that pictures are resized to"),
        ({"eval__source": "imagenet_c", "eval__dir": "d"}, "eval.source", "imagenet2012 or folder"),
        ({"eval__source": "imagenet_c", "data__name": "folder"}, "eval.dir", "NAME/SEVERITY/CLASS"),
        ({"optimizer__accumulate_steps": 3}, "batch_size", "devices times optimizer.accumulate_steps=3"),
    ],
)
def test_rules_of_imagenet_and_of_parts(settings, key, allowed):
    (line,) = faults_at(load(**settings), key)
    assert allowed in line


def test_all_faults_in_one_error():
    config = load(
        seed=-1,
        method="craf",
        student__name="resnet21",
        kd__temperature=0.0,
        views__severities=(0, 6),
        eval__corruptions=("contrast", "rain"),
        reliability__gamma=2.0,
        data__name="npz",
        eval__primary_weights=(0.5, 0.6),
        views__lanes=3,
    )
    lines = faults(config)
    assert sorted(line.split(":")[0] for line in lines) == [
        "config.data.dir",
        "config.eval.corruptions",
        "config.eval.primary_weights",
        "config.kd.temperature",
        "config.method",
        "config.reliability.gamma",
        "config.seed",
        "config.student.name",
        "config.views.lanes",
        "config.views.severities",
    ]
    (severities,) = [line for line in lines if "severities" in line]
    assert "0, 6 is unknown" in severities
    (names,) = [line for line in lines if "eval.corruptions" in line]
    assert "'rain'" in names and "'contrast'" not in names


def test_overlap():
    config = load(views__corruptions=("speckle_noise", "contrast", "brightness"))
    (line,) = faults(config)
    assert line.startswith("config.views.corruptions: brightness, contrast also in config.eval.corruptions")
    assert "--config.views.allow_overlap=True" in line
    config.views.allow_overlap = True
    assert faults(config) == []
    # A method that makes no corrupted views trains on none of them.
    assert faults(load("erm.py", views__corruptions=("contrast",))) == []
    assert len(faults(load("erm.py", views__corruptions=("contrast",), views__ce_views="all"))) == 1


def test_augmix_views_read_no_corruptions_and_no_groups():
    """What is not read cannot overlap with what is evaluated, nor fail to divide a batch."""
    settings = {"views__corruptions": ("contrast",), "views__lanes": 7}
    assert len(faults(load("craft.py", **settings))) == 2
    assert faults(load("craft.py", views__kind="augmix", **settings)) == []
    assert faults(load("augmix.py", **settings)) == []


def test_the_method_augmix_needs_its_views():
    (line,) = faults(load("augmix.py", views__kind="corruptions"))
    assert line == "config.views.kind: 'corruptions'; allowed for the method augmix: 'augmix'"
    (line,) = faults(load("augmix.py", views__count=0))
    assert line.startswith("config.views.count: 0; allowed for the method augmix: at least 1")
    assert faults(load("augmix.py", views__count=1)) == []
    assert faults(load("kd.py", views__kind="augmix", views__count=0)) == []


@pytest.mark.parametrize(
    ("devices", "batch", "teacher_batch", "lanes", "bad"),
    [
        (1, 128, 128, 8, []),
        (4, 128, 128, 8, []),
        (3, 128, 96, 8, ["batch_size", "views.lanes"]),
        (3, 96, 128, 3, ["teacher.batch_size"]),
        (3, 128, 128, 1, ["batch_size", "teacher.batch_size", "views.lanes"]),
        (1, 128, 128, 48, ["views.lanes"]),
        (2, 128, 128, 1, ["views.lanes"]),  # divides the batch, and the devices do not divide it
        (32, 128, 128, 8, ["views.lanes"]),
        (16, 128, 128, 16, []),
    ],
)
def test_batches_divide_over_devices_and_lanes(monkeypatch, devices, batch, teacher_batch, lanes, bad):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    config = load(batch_size=batch, teacher__batch_size=teacher_batch, views__lanes=lanes)
    lines = faults(config)
    assert [line.split(":")[0] for line in lines] == [f"config.{key}" for key in bad]
    for line in lines:
        size = {"batch_size": batch, "teacher.batch_size": teacher_batch}.get(line[7:].split(":")[0], lanes)
        assert f": {size}; allowed: " in line


@pytest.mark.parametrize(
    ("name", "overrides", "bad"),
    [
        ("kd.py", {}, True),
        ("kd.py", {"teacher__checkpoint": "DIR"}, False),
        ("erm.py", {}, False),
        ("no such method", {}, True),
    ],
)
def test_the_teachers_batch_matters_where_a_teacher_is_trained(monkeypatch, name, overrides, bad):
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    config = load("kd.py" if " " in name else name, batch_size=129, views__lanes=1, **overrides)
    if " " in name:
        config.method = name
    assert bool(faults_at(config, "teacher.batch_size")) == bad
    assert faults_at(config, "batch_size") == []


def test_an_evaluation_is_not_held_to_what_training_reads(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    config = load("augmix.py", views__kind="corruptions", views__count=0, data__name="digits")
    rules.validate(config)
    keys = ("batch_size", "data.flip", "views.kind", "views.count")
    assert all(faults_at(config, key) for key in keys)
    config.eval.corruptions = config.eval.severities = ()
    config.eval.batch_size = 0
    with pytest.raises(ConfigError) as error:
        rules.validate(config)
    assert [line.split(":")[0] for line in str(error.value).split("\n")] == [
        *("config.eval.batch_size", "config.eval.corruptions", "config.eval.severities")
    ]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"processes": 2}, "coordinator"),
        ({"processes": 2, "coordinator": "here"}, "coordinator"),
        ({"processes": 2, "coordinator": ":80"}, "coordinator"),
        ({"processes": 2, "coordinator": "here:70000"}, "coordinator"),
        ({"coordinator": "here:80"}, "processes"),
        ({"processes": 2, "coordinator": "here:80", "process": 2}, "process"),
        ({"process": 1}, "process"),
        ({"detect": True, "processes": 2}, "detect"),
    ],
)
def test_processes_that_could_not_meet_are_refused(settings, key):
    config = load(**{f"distributed__{name}": value for name, value in settings.items()})
    (line,) = faults(config)
    assert line.startswith(f"config.distributed.{key}: ") and "allowed" in line
    with pytest.raises(ConfigError, match=f"config.distributed.{key}: "):
        rules.validate_distributed(config)  # before they try to


def test_the_number_of_processes_is_no_part_of_a_run():
    config = load(distributed__processes=2, distributed__process=1, distributed__coordinator="[::1]:80")
    assert faults(config) == [] and faults(load(distributed__detect=True)) == []
    assert tree.differences(load(), config) == []
    assert tree.flatten(tree.from_json(tree.to_json(config))) == tree.flatten(load())
