"""The command as a user gives it: real processes, killed and started again, on one and two devices."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import craft_jax
from craft_jax import data, files
from craft_jax.config.tree import from_json
from craft_jax.evaluation import correctness
from tests.conftest import some_slow

ROOT = Path(__file__).parent.parent


def command(*words, devices=1):
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return {
        "args": [sys.executable, "-m", "craft_jax.main", *words],
        "cwd": ROOT,
        "env": environment,
        "text": True,
    }


def run(*words, devices=1, status=0):
    done = subprocess.run(**command(*words, devices=devices), capture_output=True)
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A CRAFT run at the smoke preset, its teacher trained on the way."""
    base = tmp_path_factory.mktemp("runs")
    words = (
        "--config=configs/craft.py:smoke",
        f"--workdir={base / 'craft'}",
        f"--config.teacher.cache={base / 'teachers'}",
        "--config.data.size=16",
        "--config.checkpoint.every_steps=1000",
        "--config.log.every_steps=1",
    )
    return base, words, run(*words)


def result(workdir):
    return json.loads((workdir / "results.json").read_text())


def test_one_command_trains_a_teacher_and_a_student_and_says_so(finished):
    base, _, done = finished
    for line in ("method:  craft", "views:   2 for the student, 2 for the teacher", "teacher: resnet8"):
        assert line in done.stdout
    assert str(base / "craft" / "results.json") in done.stdout.splitlines()[-1]
    measured = result(base / "craft")
    assert measured["status"] == "done"
    assert set(measured["corruptions"]) == {"gaussian_noise", "contrast"}
    correct = correctness.read(base / "craft" / "results.npz")
    assert list(correct) == ["clean", *(f"{n}/{s}" for n in measured["corruptions"] for s in (1, 5))]
    for name, row in measured["corruptions"].items():
        assert [100 * int(correct[f"{name}/{s}"].sum()) / 64 for s in (1, 5)] == [row[0], row[4]]
    assert measured["teacher"]["name"] == "resnet8"
    assert re.search(
        r"^time:    about \d:\d\d:\d\d of training left, \d+ ms a step$", done.stdout, re.MULTILINE
    )
    # The teacher beside the student, as its own run measured it.
    teacher = measured["teacher_evaluation"]
    for key in ("clean_accuracy", "robust_accuracy", "corruptions"):
        assert teacher[key] == measured["teacher"][key]
    assert 0 <= teacher["agreement"]["clean"] <= 100
    assert "agreement" in done.stdout


def test_the_same_command_again_repeats_nothing(finished):
    base, words, _ = finished
    before = (base / "craft" / "results.json").read_bytes()
    started = time.time()
    done = run(*words)
    assert "already done" in done.stdout
    assert "steps:" not in done.stdout
    assert time.time() - started < 60
    assert (base / "craft" / "results.json").read_bytes() == before


def test_evaluation_alone_gives_the_same_figures_and_leaves_the_result(finished):
    """On three devices, which could not train it: its batches of 32 do not divide."""
    base, _, _ = finished
    before = (base / "craft" / "results.json").read_bytes()
    run("--mode=eval", f"--workdir={base / 'craft'}", "--config.eval.batch_size=48", devices=3)
    measured = json.loads((base / "craft" / "eval" / "regenerated.json").read_text())
    for key in ("corruptions", "clean_accuracy", "params_sha256", "families"):
        assert measured[key] == result(base / "craft")[key]
    teacher = result(base / "craft")["teacher_evaluation"]
    assert measured["teacher_evaluation"]["corruptions"] == teacher["corruptions"]
    assert measured["teacher_evaluation"]["agreement"] == teacher["agreement"]
    assert (base / "craft" / "results.json").read_bytes() == before


def test_evaluation_without_its_teacher_says_so(finished, tmp_path):
    base, _, _ = finished
    shutil.copytree(base / "craft", tmp_path / "run")
    record = files.read_json(tmp_path / "run" / "teacher.json")
    record["checkpoint"] = str(tmp_path / "gone")
    files.write_json(tmp_path / "run" / "teacher.json", record)
    done = run("--mode=eval", f"--workdir={tmp_path / 'run'}")
    assert "note: evaluated without its teacher: " in done.stderr and str(tmp_path / "gone") in done.stderr
    measured = json.loads((tmp_path / "run" / "eval" / "regenerated.json").read_text())
    assert measured["teacher_evaluation"] is None
    assert measured["corruptions"] == result(base / "craft")["corruptions"]


def test_evaluation_of_another_configuration_is_refused(finished):
    _, words, _ = finished
    done = run(*words, "--mode=eval", "--config.seed=4", status=2)
    assert "config.seed: 0 in the working directory, 4 now" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_loaded_student_predicts_as_it_was_measured(finished):
    base, _, _ = finished
    predict = craft_jax.load(base / "craft")
    digits = data.load(from_json(result(base / "craft")["config"]))
    logits = predict(digits.test_images[:64] / np.float32(255))
    assert logits.shape == (64, 10)
    hits = np.argmax(logits, axis=-1) == digits.test_labels[:64]
    assert 100 * hits.mean() == pytest.approx(result(base / "craft")["clean_accuracy"])
    assert predict.config.method == "craft"


@pytest.fixture(scope="module")
def finished_crd(finished):
    """A CRD run on the same teacher: banks, Z and heads are in its state."""
    base, words, _ = finished
    (cache,) = (w for w in words if "cache" in w)
    words = ("--config=configs/crd.py:smoke", f"--workdir={base / 'crd'}", cache, *words[3:])
    return base, words, run(*words)


def last_state(workdir):
    """Every leaf of the last checkpoint, by its path."""
    restored = ocp.StandardCheckpointer().restore((workdir / "checkpoints" / "43" / "default").absolute())
    flat = jax.tree_util.tree_leaves_with_path(restored)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


@pytest.mark.parametrize("method", some_slow(["craft", "crd"], ["craft"]))
def test_a_killed_process_goes_on_to_the_same_end(method, request, tmp_path):
    base, words, _ = request.getfixturevalue("finished" if method == "craft" else "finished_crd")
    words = [
        *(w for w in words if "workdir" not in w and "checkpoint" not in w),
        f"--workdir={tmp_path}",
        "--config.checkpoint.every_steps=10",
    ]
    process = subprocess.Popen(**command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 300
    while (
        not (tmp_path / "checkpoints" / "10").exists() and process.poll() is None and time.time() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (tmp_path / "results.json").exists()
    run(*words)
    resumed = result(tmp_path)
    assert resumed["resumed_from"]
    assert resumed["resumed_from"][0] % 10 == 0
    assert resumed["params_sha256"] == result(base / method)["params_sha256"]
    state, whole = last_state(tmp_path), last_state(base / method)
    assert state.keys() == whole.keys()
    for path, leaf in whole.items():  # CRD's banks, Z and heads; CRAFT's projections; momenta
        np.testing.assert_array_equal(state[path], leaf, err_msg=path)
    assert any(("bank" if method == "crd" else "projections") in path for path in whole), sorted(whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 44))


@pytest.mark.slow
def test_signals_save_and_the_same_command_goes_on_to_the_same_end(finished, tmp_path):
    """Ctrl-C while the teacher trains on the way, a preemption while the student does."""
    base, words, _ = finished
    words = [w for w in words if "workdir" not in w and "cache" not in w]
    words += [f"--workdir={tmp_path / 'craft'}", f"--config.teacher.cache={tmp_path / 'teachers'}"]
    for number, directory in ((signal.SIGINT, "teachers/*"), (signal.SIGTERM, "craft")):
        process = subprocess.Popen(**command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.time() + 300
        logs = f"{directory}/metrics.jsonl"
        while not any(len(path.read_text().splitlines()) >= 5 for path in tmp_path.glob(logs)):
            assert process.poll() is None and time.time() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 75, errors
        told = re.search(r"^craft_jax: interrupted; .* from step (\d+), which is saved$", errors, re.M)
        (workdir,) = (path for path in tmp_path.glob(directory) if path.is_dir())
        assert [path.name for path in (workdir / "checkpoints").iterdir()] == [told[1]]
        assert not (workdir / "results.json").exists()
    run(*words)
    resumed = result(tmp_path / "craft")
    assert resumed["resumed_from"] == [int(told[1])]
    assert resumed["params_sha256"] == result(base / "craft")["params_sha256"]
    assert resumed["teacher"]["params_sha256"] == result(base / "craft")["teacher"]["params_sha256"]
    rows = (tmp_path / "craft" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(1, 44))


@pytest.mark.slow
def test_the_command_on_two_devices(finished, tmp_path):
    """Every method's steps on two devices are tests/training/test_devices.py's."""
    base, words, _ = finished
    words = [w for w in words if "workdir" not in w]
    run(*words, f"--workdir={tmp_path}", devices=2)

    def losses(workdir):
        rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        return np.array([[v for k, v in sorted(row.items()) if k.startswith("loss")] for row in rows])

    one, two = losses(base / "craft"), losses(tmp_path)
    assert one.shape == two.shape == (43, 5)
    np.testing.assert_allclose(two[0], one[0], rtol=1e-4)
    assert result(tmp_path)["status"] == "done"
