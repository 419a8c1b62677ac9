"""The command line: what a user gets wrong costs one message and status 2, before any work and any file."""

import os
import shutil
import subprocess
import sys

import pytest

from craft_jax.config import command
from craft_jax.errors import ConfigError
from tests.config.commands import CRAFT, ROOT, SMOKE, parse, refused

pytestmark = pytest.mark.usefixtures("somewhere")


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


def test_a_bad_preset_does_not_hide_the_overrides_faults(tmp_path):
    with pytest.raises(ConfigError) as error:
        command.parse(
            [f"--config={ROOT / 'configs' / 'erm.py'}:digit", "--config.sed=1", "--config.epochs=0"]
        )
    lines = str(error.value).splitlines()
    assert "unknown preset 'digit'; allowed: digits" in lines[0]
    assert [line.split(":")[0] for line in lines[1:]] == ["config.sed", "config.epochs"]
