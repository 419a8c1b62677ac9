"""Whole studies by the command: killed and continued, and continued on another machine."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from craft_jax import files
from craft_jax.report import __main__ as report
from craft_jax.study import __main__ as command

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
import functools
from configs import default
from craft_jax import models
from craft_jax.models.resnet import ResNet

models.REGISTRY["tiny"] = functools.partial(ResNet, 8, stem=4, widths=(4, 4, 8))

def get_config(preset=""):
    config = default.get_config("smoke")
    config.method = preset
    config.student.name = config.teacher.name = "tiny"
    config.data.size = 16
    config.data.max_train, config.batch_size, config.teacher.batch_size = 64, 16, 16
    config.epochs = 60  # of 4 steps
    config.checkpoint.every_steps = 10
    config.log.every_steps = 1
    config.log.tensorboard = False
    config.eval.corruptions, config.eval.severities = ("contrast",), (5,)
    return config
"""

STUDY = '''
"""Does it go on?"""
from craft_jax.study import Arm, Comparison, Study

def get_study(preset=""):
    names = ["erm", "kd", *filter(None, [preset])]
    arms = {{name: Arm("{config}:" + name) for name in names}}
    further = {{"adapted": {{"eval.adaptation": "batch_norm", "eval.adaptation_batch_size": 50}}}}
    return Study(arms, (0,), "erm", (Comparison("kd", "erm", "robust"),), further)
'''


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A user's own study, of a user's own configuration and network."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "config.py").write_text(CONFIG)
    (folder / "study.py").write_text(STUDY.format(config=folder / "config.py"))
    return folder / "study.py"


@pytest.fixture(scope="module")
def undisturbed(file, tmp_path_factory):
    """(its directory, its kept results) of a finished study."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert command.main([str(file), f"--out={out / 'runs'}", f"--results={out / 'kept'}"]) == 0
    return out / "runs", out / "kept"


def result(directory, arm):
    return json.loads((directory / arm / "seed0" / "results.json").read_text())


@pytest.mark.slow
def test_students_are_evaluated_once_more(undisturbed, capsys):
    runs, kept = undisturbed
    for arm in ("erm", "kd"):
        path = runs / arm / "seed0" / "eval" / "adapted.json"
        own, adapted = files.read_json(path.parents[1] / "results.json"), files.read_json(path)
        assert adapted["params_sha256"] == own["params_sha256"]
        assert adapted["adaptation"]["kind"] == "batch_norm" and own["adaptation"] is None
        (copy,) = kept.glob(f"{arm}-seed0-*.eval.adapted.json")
        assert files.read_json(copy) == adapted and copy.with_suffix(".npz").exists()
    assert not list(kept.glob("*.lock"))
    assert report.main([str(kept)]) == 0
    assert "study-adapted: 2 of 2 runs. Adapted to the test images" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_end(file, undisturbed, tmp_path):
    words = [sys.executable, "-m", "craft_jax.study", str(file), f"--out={tmp_path / 'runs'}"]
    study = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    metrics = tmp_path / "runs" / "kd" / "seed0" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > 20) and time.monotonic() < until:
        time.sleep(0.02)
    study.send_signal(signal.SIGTERM)
    said, _ = study.communicate(timeout=90)
    assert study.returncode == 75, said
    assert "1 runs to do; the same command goes on" in said

    assert command.main([str(file), f"--out={tmp_path / 'runs'}"]) == 0
    assert result(tmp_path / "runs", "kd")["resumed_from"] != []
    for arm in ("erm", "kd"):
        one, other = result(tmp_path / "runs", arm), result(undisturbed[0], arm)
        for key in ("params_sha256", "clean_accuracy", "corruptions"):
            assert one[key] == other[key], (arm, key)


@pytest.mark.slow
def test_a_study_goes_on_from_its_results_alone(file, undisturbed, tmp_path, capsys):
    runs, kept = undisturbed
    words = [f"{file}:craft", f"--out={tmp_path / 'elsewhere'}", f"--results={kept}"]
    assert command.main([*words, "--dry_run"]) == 0
    shown = capsys.readouterr().out
    assert "erm/seed0: done" in shown and "kd/seed0: done" in shown and "craft/seed0: to do" in shown
    (teacher,) = (kept / "teachers").iterdir()
    assert f"--config.teacher.checkpoint={teacher}" in shown
    assert not (tmp_path / "elsewhere").exists()

    assert command.main(words) == 0
    assert [path.name for path in (tmp_path / "elsewhere").glob("*/seed0")] == ["seed0"]  # craft's alone
    craft = result(tmp_path / "elsewhere", "craft")
    assert craft["teacher"]["params_sha256"] == result(runs, "kd")["teacher"]["params_sha256"]
    assert craft["teacher_evaluation"] is None
    manifest = json.loads((kept / "study_craft.study.json").read_text())
    for run in manifest["runs"]:
        assert json.loads((kept / run["result"]).read_text())["method"] == run["arm"]
    assert manifest["question"] == "Does it go on?"


def test_bad_words_are_told_at_once(file, capsys):
    words = [str(file), "--out=x", "--jobs=0", "--minutes=-1", "--config.epochs=none", "-x"]
    assert command.main(words) == 2
    said = capsys.readouterr().err
    assert "--jobs: 0; allowed: at least 1" in said and "--minutes: -1.0" in said
    assert "-x: unknown argument" in said
    assert command.main([str(file), "--out=x", "--config.epochs=none"]) == 2
    said = capsys.readouterr().err
    assert "arm erm: config.epochs: 'none'" in said and "arm kd: config.epochs: 'none'" in said


@pytest.mark.slow
def test_two_teachers_of_one_recipe_are_refused(file, undisturbed, tmp_path, capsys):
    kept = undisturbed[1]
    (teacher,) = (kept / "teachers").iterdir()
    shutil.copytree(kept, tmp_path / "kept")
    other = tmp_path / "kept" / "teachers" / "other"
    shutil.copytree(teacher, other)
    result = files.read_json(other / "results.json")
    files.write_json(other / "results.json", result | {"params_sha256": "another"})
    words = [str(file), f"--out={tmp_path / 'out'}", f"--results={tmp_path / 'kept'}"]
    assert command.main(words) == 2
    assert "two teachers of one recipe" in capsys.readouterr().err


@pytest.mark.slow
def test_a_large_teacher_is_kept_without_its_weights(file, undisturbed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command.store.kept, "MOST_BYTES", 1000)
    runs, _ = undisturbed
    shutil.copytree(runs, tmp_path / "runs")
    folder = tmp_path / "kept"
    assert command.main([str(file), f"--out={tmp_path / 'runs'}", f"--results={folder}"]) == 0
    (teacher,) = (folder / "teachers").iterdir()
    assert not (teacher / "model.safetensors").exists() and (teacher / "results.json").exists()
    # What is done counts elsewhere; a run that needs the teacher says what is missing.
    assert command.main([f"{file}:craft", f"--out={tmp_path / 'b'}", f"--results={folder}"]) == 1
    said = capsys.readouterr().err
    assert "failed: craft/seed0:" in said and "kept without its weights" in said
