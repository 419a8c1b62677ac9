"""The command line: what is parsed, and what a user is told of overrides without effect."""

from pathlib import Path

import pytest

from craft_jax import main, methods
from craft_jax.config import command, reader, rules, tree
from craft_jax.errors import ConfigError, CraftError, Interrupted, TrainingStopped
from tests.config.commands import CRAFT, ROOT, SMOKE, parse, refused

pytestmark = pytest.mark.usefixtures("somewhere")


def test_overrides_of_both_forms():
    options = parse(
        SMOKE,
        "--config.seed",
        "3",
        "--workdir",
        "a b",
        "--config.data.dir=--x=y z",
        "--config.dealign.weight=0",
        "--config.eval.severities",
        "1,3",
        "--mode=train",
        "-config.epochs=2",
        "--config.data.flip",
        "False",
    )
    assert options.workdir == "a b" and options.mode == "train"
    config = options.config
    assert (config.seed, config.data.dir, config.dealign.weight) == (3, "--x=y z", 0.0)
    assert config.eval.severities == (1, 3) and config.epochs == 2
    assert config.method == "craft" and config.data.name == "digits"
    rules.validate(config)


def test_a_value_may_be_negative_or_have_spaces(capsys):
    (line,) = refused(capsys, SMOKE, "--config.reliability.gamma", "-1")
    assert line.startswith("config.reliability.gamma: -1.0;")
    assert parse(SMOKE, "--config.data.dir", "my data").config.data.dir == "my data"
    assert parse(SMOKE, "--config.data.dir=my data").config.data.dir == "my data"


def test_a_key_does_not_swallow_the_next_flag(capsys):
    lines = refused(capsys, SMOKE, "--config.seed", "--config.epochs=2", "--workdir=run")
    assert lines == ["--config.seed: no value; write --config.seed=VALUE"]


def test_the_last_override_wins():
    assert parse(SMOKE, "--config.seed=1", "--config.seed", "2").config.seed == 2


def test_default_workdir():
    config = reader.load(f"{CRAFT}:smoke")
    config.seed = 4
    assert command.default_workdir("configs/craft.py", config) == "runs/craft_digits_seed4"
    assert command.default_workdir("/a/b/kd.py:", config) == "runs/kd_digits_seed4"
    assert command.default_workdir("configs/kd.py:digits,matched", config) == "runs/kd_digits_matched_seed4"
    assert command.default_workdir("my.kd.py:digits,", config) == "runs/my.kd_digits_seed4"
    assert parse(SMOKE, "--config.seed=9").workdir == "runs/craft_digits_smoke_seed9"
    assert parse(SMOKE, "--workdir=x").workdir == "x"


def test_the_default_workdir_names_the_data():
    """Or a second data set would meet the first one's run."""
    npz = ["--config.data.name=npz", "--config.data.dir=some where/flowers.npz"]
    folder = ["--config.data.name=folder", "--config.data.dir=my/flowers.v2/", "--config.data.size=32"]
    for preset, overrides, name in (
        ("", folder, "craft_flowers.v2"),
        ("", [], "craft_cifar10"),
        ("matched", ["--config.data.name=cifar100"], "craft_cifar100_matched"),
        ("cifar10_cpu", [], "craft_cifar10_cpu"),
        ("cifar10_cpu", ["--config.data.name=cifar100"], "craft_cifar100_cifar10_cpu"),
        ("small", npz, "craft_flowers_small"),
        ("digits", npz, "craft_flowers_digits"),
    ):
        assert parse(f"--config={CRAFT}:{preset}", *overrides).workdir == f"runs/{name}_seed0"


def test_rules_of_training_do_not_keep_a_run_from_its_evaluation(capsys, monkeypatch, somewhere):
    """On three devices, say, a run of one is evaluated, though it could not be trained there."""
    config = reader.load(f"{ROOT / 'configs' / 'craft.py'}")
    (somewhere / "run").mkdir()
    command.files.write_json(somewhere / "run" / "config.json", tree.to_json(config))
    monkeypatch.setattr(command.rules.jax, "device_count", lambda: 3)
    for words in (["--workdir=run"], [f"--config={CRAFT}", "--workdir=run"]):
        assert parse("--mode=eval", *words).config.batch_size == 128
    keys = ["batch_size", "teacher.batch_size", "views.lanes"]
    train = refused(capsys, f"--config={CRAFT}")
    assert [line.split(":")[0] for line in train] == [f"config.{k}" for k in keys]
    # Beside another fault, of the overrides, those of the mode and no others.
    train = refused(capsys, f"--config={CRAFT}", "--config.sed=1", "--config.eval.batch_size=0")
    evaluate = refused(capsys, "--mode=eval", "--workdir=run", "--config.sed=1", "--config.eval.batch_size=0")
    assert [line.split(":")[0] for line in evaluate] == ["config.sed", "config.eval.batch_size"]
    assert [line.split(":")[0] for line in train] == [
        *("config.sed", "config.eval.batch_size"),
        *(f"config.{k}" for k in keys),
    ]


def test_eval_takes_the_stored_configuration(somewhere):
    config = reader.load(f"{ROOT / 'configs' / 'kd.py'}:smoke", [("seed", "5"), ("epochs", "3")])
    (somewhere / "run").mkdir()
    configuration_file = somewhere / "run" / "config.json"
    main.command.files.write_json(configuration_file, tree.to_json(config))
    options = parse("--mode=eval", "--workdir=run", "--config.eval.severities=5")
    assert (options.mode, options.workdir) == ("eval", "run")
    assert options.config.eval.severities == (5,)
    assert tree.differences(config, options.config) == []
    with pytest.raises(ConfigError, match=r"eval\.severites: no such key; did you mean eval\.sev"):
        parse("--mode=eval", "--workdir=run", "--config.eval.severites=5")
    with pytest.raises(ConfigError, match="--config: missing"):
        parse("--mode=train", "--workdir=run")


def test_help(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        main.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--config FILE[:PRESET]", "--workdir DIR", "--mode", "--config.KEY=VALUE"):
        assert flag in text
    for mode in command.MODES:
        assert f"\n  {mode} " in text
    for error in (CraftError, TrainingStopped, Interrupted):
        assert f"\n  {error.status} " in text
    for path in (ROOT / "configs").glob("[!_]*.py"):
        first_line = path.read_text().split("\n")[0].removeprefix('"""').removesuffix('"""')
        assert f"configs/{path.name}" in text and first_line in text
    for name, preset in reader.import_file(ROOT / "configs" / "_presets.py").PRESETS.items():
        assert f":{name} " in text and preset.__doc__.split("\n")[0] in text


def test_help_from_elsewhere(capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["--help"])
    assert stop.value.code == 0
    assert "--workdir DIR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "overrides", "without"),
    [
        ("erm.py:digits", ["kd.weight=3", "epochs=2"], ["kd.weight"]),
        ("craft.py:digits", ["kd.weight=3"], []),
        ("kd.py:digits", ["views.count=4"], ["views.count"]),
        ("kd.py:digits", ["views.count=4", "views.distill_views=all"], []),
        ("erm.py:digits", ["views.distill_views=all"], ["views.distill_views"]),
        ("crd.py:digits", ["crd.negatives=7"], []),
        ("crd.py:digits", ["crd.bank=batch", "crd.negatives=7"], ["crd.negatives"]),
        ("kd.py:digits", ["teacher.checkpoint=DIR", "teacher.name=resnet20"], ["teacher.name"]),
        ("kd.py:digits", ["teacher.name=resnet20"], []),
        ("erm.py:digits", ["teacher.name=resnet20"], ["teacher.name"]),
        ("kd.py:digits", ["augmix.width=2", "augmix.width=3"], ["augmix.width"]),
        ("kd.py:digits", ["augmix.width=2", "teacher.method=augmix"], []),
        ("kd.py:digits", ["kd.weight=0", "kd.temperature=2"], ["kd.temperature"]),
        ("craft.py:digits", ["dealign.weight=0", "dealign.form=shift"], ["dealign.form"]),
        ("craft.py:digits", ["contrastive.weight=0", "contrastive.stages=3"], []),
        ("craft.py:digits", ["views.kind=augmix", "views.lanes=4"], ["views.lanes"]),
        ("craft.py:digits", ["data.dir=mine.npz"], ["data.dir"]),
        ("craft.py", ["data.dir=DIR"], []),
    ],
)
def test_an_override_without_effect_is_pointed_out(capsys, spec, overrides, without):
    parse(f"--config={ROOT / 'configs' / spec}", *(f"--config.{text}" for text in overrides))
    method = Path(spec.partition(":")[0]).stem
    lines = [f"note: config.{key} has no effect in this run of method {method}\n" for key in without]
    assert capsys.readouterr().err == "".join(lines)


def test_craft_without_corrupted_views_says_what_is_void(capsys):
    parse(f"--config={CRAFT}:digits", "--config.views.count=0")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: config.views.count: 0; ") and "dealign.* has no effect" in line
    parse(f"--config={CRAFT}:digits", "--config.views.count=0", "--config.dealign.weight=0")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: config.dealign.weight has no effect")


def test_a_users_method_without_reads_is_left_in_peace(capsys, monkeypatch):
    method = methods.Method(terms=None, views=lambda config: (1, 0))
    monkeypatch.setitem(methods.METHODS, "erm", method)
    parse(f"--config={ROOT / 'configs' / 'erm.py'}:digits", "--config.kd.weight=3", "--config.dealign.eps=1")
    assert capsys.readouterr().err == ""
