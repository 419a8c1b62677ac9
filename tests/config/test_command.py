"""The command line: what a user gets wrong costs one message and status 2, before any work and any file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from craft_jax import main, methods
from craft_jax.config import command, reader, rules, tree
from craft_jax.errors import ConfigError, CraftError, Interrupted, TrainingStopped

ROOT = Path(__file__).resolve().parents[2]
CRAFT = str(ROOT / "configs" / "craft.py")
SMOKE = f"--config={CRAFT}:smoke"


@pytest.fixture(autouse=True)
def somewhere(monkeypatch, tmp_path):
    """An empty current directory, where no run may begin unless a test lets it."""

    def begin(*args):
        raise AssertionError("a run began")

    monkeypatch.setattr(main, "train_and_evaluate", begin)
    monkeypatch.setattr(main, "evaluate_workdir", begin)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv):
    """The lines on stderr of a command that must end with status 2 and leave nothing behind."""
    before = sorted(Path.cwd().rglob("*"))
    assert main.main(list(argv)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("craft_jax: ") and captured.err.count("craft_jax: ") == 1
    assert "Traceback" not in captured.err
    assert sorted(p for p in Path.cwd().rglob("*") if "__pycache__" not in p.parts) == before
    return captured.err.removeprefix("craft_jax: ").rstrip("\n").split("\n")


def parse(*argv):
    return command.parse(list(argv))


# ----------------------------------------------------------------------------------------------------
# Faults


def test_many_faults_in_one_message(capsys):
    lines = refused(
        capsys,
        SMOKE,
        "--workdir=run",
        "--config.dealing.weight=0",
        "--config.seed=1.5",
        "--config.kd.temperature=0",
        "--config.views.ce_views=some",
        "--config.eval.corruptions=speckle_noise",
        "--mode=test",
        "--verbose",
        "stray",
        "--config.epochs",
    )
    expected = [
        "--verbose: unknown argument",
        "stray: unknown argument",
        "--config.epochs: no value; write --config.epochs=VALUE",
        "--mode: 'test' is unknown; allowed: train, eval",
        "config.dealing.weight: no such key; did you mean dealign.weight",
        "config.seed: '1.5' is not of type int",
        "config.kd.temperature: 0.0; allowed: a number above 0",
        "config.views.ce_views: 'some' is unknown; allowed: clean, all",
        "config.views.corruptions: speckle_noise also in config.eval.corruptions",
    ]
    assert len(lines) == len(expected)
    for fault in expected:
        assert len([line for line in lines if line.startswith(fault)]) == 1, fault


def test_a_real_process(somewhere):
    """The same through the interpreter: status, streams, no traceback, no working directory."""
    workdir = somewhere / "run"
    arguments = [
        SMOKE,
        f"--workdir={workdir}",
        "--config.student.nam=resnet8",
        "--config.teacher.name",
        "resnet9",
        "--config.batch_size=-1",
        "--config.reliability.gamma=1.5",
    ]
    process = subprocess.run(
        [sys.executable, "-m", "craft_jax.main", *arguments],
        cwd=somewhere,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 2, process.stderr
    assert process.stdout == ""
    assert "Traceback" not in process.stderr
    keys = [line.removeprefix("craft_jax: ").split(":")[0] for line in process.stderr.strip().split("\n")]
    assert sorted(keys) == [
        "config.batch_size",
        "config.reliability.gamma",
        "config.student.nam",
        "config.teacher.name",
    ]
    assert list(somewhere.iterdir()) == []


def test_no_config(capsys):
    (line,) = refused(capsys, "--workdir=run")
    assert line.startswith("--config: missing")
    lines = refused(capsys, "--workdir=run", "--config=", "--mode=evil")
    assert [line.split(":")[0] for line in lines] == ["--mode", "--config"]


def test_unknown_config_file(capsys, monkeypatch, somewhere):
    (line,) = refused(capsys, "--config=craft.py")
    assert "craft.py" in line and line.startswith("--config: no file ")
    (line,) = refused(capsys, f"--config={somewhere}")  # a directory
    assert line.startswith("--config: no file ")
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError) as error:
        parse("--config=configs/crafd.py")
    for name in ("craft", "default", "erm", "kd", "teacher"):
        assert f"configs/{name}.py" in str(error.value)


def test_unknown_preset(capsys):
    (line,) = refused(capsys, f"--config={CRAFT}:digit")
    assert "unknown preset 'digit'" in line
    for name in ("digits", "cifar10_cpu", "smoke", "matched"):
        assert name in line.partition("allowed: ")[2].split(", ")
    (line,) = refused(capsys, f"--config={CRAFT}:smoke,nope")
    assert "unknown preset 'nope'" in line


@pytest.mark.parametrize("mode", ["test", "", "Train", "evaluate"])
def test_unknown_mode(capsys, mode):
    (line,) = refused(capsys, SMOKE, f"--mode={mode}")
    assert line == f"--mode: {mode!r} is unknown; allowed: train, eval"


@pytest.mark.parametrize(
    "flag", ["--seed=1", "--conf=x", "--work=x", "-v", "--config-seed=1", "--config.=1", "extra", "---seed"]
)
def test_unknown_flag(capsys, flag):
    lines = refused(capsys, SMOKE, flag)
    assert lines == [f"{flag}: unknown argument; see --help"]


@pytest.mark.parametrize("flag", ["--workdir", "--mode", "--config"])
def test_a_flag_without_its_value(capsys, flag):
    (line,) = refused(capsys, SMOKE, flag)
    assert flag in line and "expected one argument" in line


@pytest.mark.parametrize(
    ("key", "text"),
    [("kd.weight", "{[]: 1}"), ("kd.weight", "9" * 400), ("seed", "9" * 400), ("seed", "9" * 5000)],
)
def test_no_override_brings_a_traceback(capsys, key, text):
    (line,) = refused(capsys, SMOKE, f"--config.{key}={text}")
    assert line.startswith(f"config.{key}: ")


CONFIG_FILES = {
    "raises": "def get_config(preset=''):\n    raise KeyError('lost')",
    "raises when imported": "1 / 0",
    "has a syntax error": "def get_config(",
    "imports what is not there": "import no_such_module",
    "has no get_config": "x = 1",
    "takes no preset": "def get_config():\n    return 1",
    "returns nothing": "def get_config(preset=''):\n    return None",
    "returns a part": (
        "import ml_collections\n"
        "def get_config(preset=''):\n    return ml_collections.ConfigDict({'seed': 1, 'epochs': 2})"
    ),
    "sets a misspelt key": (
        "from configs import default\n"
        "def get_config(preset=''):\n"
        "    config = default.get_config(preset)\n    config.kd.wieght = 1.0\n    return config"
    ),
    "sets another type": (
        "from configs import default\n"
        "def get_config(preset=''):\n"
        "    config = default.get_config(preset)\n    config.epochs = 'many'\n    return config"
    ),
}


@pytest.mark.parametrize("fault", CONFIG_FILES)
@pytest.mark.parametrize("overrides", [(), ("--config.seed=2",)])
def test_a_config_file_that_fails(capsys, somewhere, fault, overrides):
    (somewhere / "mine.py").write_text(CONFIG_FILES[fault])
    lines = refused(capsys, "--config=mine.py", "--workdir=run", *overrides)
    if fault == "returns a part":
        assert any(line.startswith("config.method: missing; configs/default.py has") for line in lines)
    else:
        assert lines[0].removeprefix("craft_jax: ").startswith("--config=mine.py: ")


OTHER_FILES = {
    "without a docstring": "from configs import default\n\n\ndef get_config(preset=''):\n    return 1\n",
    "with an empty docstring": '""""""\n',
    "with a syntax error": "def get_config(\n",
    "in another encoding": b'"""\xe9t\xe9"""\n',
}


@pytest.mark.parametrize("fault", OTHER_FILES)
def test_another_file_in_configs_does_not_matter(capsys, somewhere, fault):
    """A user's unfinished experiment in configs/ must not stop commands that do not name it."""
    shutil.copytree(ROOT / "configs", somewhere / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    text = OTHER_FILES[fault]
    (somewhere / "configs" / "mine.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert parse("--config=configs/craft.py:smoke").config.method == "craft"
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    assert stop.value.code == 0
    assert "configs/craft.py" in capsys.readouterr().out


def test_eval_of_nothing(capsys, somewhere):
    (line,) = refused(capsys, "--mode=eval", "--workdir=nowhere")
    assert "nowhere/config.json: no such file" in line
    lines = refused(capsys, "--mode=eval")
    assert lines[0].startswith("--config: missing")
    (somewhere / "run").mkdir()
    (somewhere / "run" / "config.json").write_text("{")
    (line,) = refused(capsys, "--mode=eval", "--workdir=run")
    assert "run/config.json: not readable as JSON" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"seed": 1}', "config.method: missing"), ("[]", "run/config.json: not a configuration")],
)
def test_eval_of_another_programs_config(capsys, somewhere, text, said):
    (somewhere / "run").mkdir()
    (somewhere / "run" / "config.json").write_text(text)
    assert any(said in line for line in refused(capsys, "--mode=eval", "--workdir=run"))


# ----------------------------------------------------------------------------------------------------
# What is parsed


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


# ----------------------------------------------------------------------------------------------------
# What main does with it

RESULT = {
    "clean_accuracy": 91.256,
    "robust_accuracy": 60.0,
    "primary_metric": 67.814,
    "source": "regenerated",
    "corruptions": {"contrast": [90.0, None, 50.123, None, None], "jpeg_compression": [None] * 4 + [5.0]},
    "shifted": None,
    "teacher_evaluation": None,
    "against_reference": None,
    "clean": {"nll": 0.5, "ece": 0.1, "confidence_on_errors": 0.6},
    "corrupted": {"nll": 0.5, "ece": 0.1, "confidence_on_errors": 0.6},
}


def test_train_prints_and_returns_0(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(main, "train_and_evaluate", lambda *args: calls.append(args) or RESULT)
    assert main.main([SMOKE, "--workdir=run", "--config.seed=8"]) == 0
    ((config, workdir),) = calls
    assert config.seed == 8 and workdir == "run"
    out, err = capsys.readouterr()
    assert out.endswith(f"results are in {Path('run') / 'results.json'}\n") and err == ""
    assert "91.26%" in out and "67.81" in out


def test_eval_prints_and_returns_0(capsys, monkeypatch):
    def evaluated(config, workdir, name):
        return RESULT, Path(workdir) / "eval" / f"{name}.json"

    monkeypatch.setattr(main, "evaluate_workdir", evaluated)
    assert main.main([SMOKE, "--workdir=run", "--mode=eval", "--eval_name=x-1"]) == 0
    assert capsys.readouterr().out.endswith("results are in run/eval/x-1.json\n")


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "x" * 101])
def test_an_evaluations_name_is_a_file_name(capsys, name):
    (line,) = refused(capsys, SMOKE, "--workdir=run", "--mode=eval", f"--eval_name={name}")
    assert f"--eval_name: {name!r}; allowed: 1 to 100 of letters, digits" in line


def test_an_evaluations_name_is_for_evaluations(capsys):
    (line,) = refused(capsys, SMOKE, "--workdir=run", "--eval_name=x")
    assert line.endswith("--eval_name: only --mode=eval reads it")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (TrainingStopped(7, ["loss/kd", "loss/ce"]), 3, "stopped at step 7: loss/kd, loss/ce not finite"),
        (ConfigError("config.x: bad"), 2, "config.x: bad"),
        (Interrupted(7), 75, "interrupted; the same command goes on from step 7, which is saved"),
    ],
)
def test_exit_status(capsys, monkeypatch, error, status, text):
    def stop(*args):
        raise error

    monkeypatch.setattr(main, "train_and_evaluate", stop)
    assert main.main([SMOKE, "--workdir=run"]) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("craft_jax: ") and text in err


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


def test_a_bad_preset_does_not_hide_the_overrides_faults(tmp_path):
    with pytest.raises(ConfigError) as error:
        command.parse(
            [f"--config={ROOT / 'configs' / 'erm.py'}:digit", "--config.sed=1", "--config.epochs=0"]
        )
    lines = str(error.value).splitlines()
    assert "unknown preset 'digit'; allowed: digits" in lines[0]
    assert [line.split(":")[0] for line in lines[1:]] == ["config.sed", "config.epochs"]
