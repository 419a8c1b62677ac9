"""Evaluations of one run beside each other: what they are called, and that none replaces another."""

import functools
import json
import re

import numpy as np
import pytest

from configs import erm
from craft_jax import data, files
from craft_jax.config import command
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.evaluation import __main__ as evaluation
from craft_jax.evaluation import correctness, names, workdirs
from craft_jax.files import lock
from craft_jax.report import __main__ as report
from craft_jax.report import summary
from craft_jax.runs import predict
from craft_jax.training import train


def make(**overrides):
    config = erm.get_config("smoke")
    settings = {"student.name": "tiny", "batch_size": 16, "epochs": 1, "eval.batch_size": 16}
    settings |= {"eval.corruptions": ("contrast",), "eval.severities": (5,), "eval.max_examples": 0}
    for key, value in (settings | {"log.progress": False, "log.tensorboard": False} | overrides).items():
        section, _, leaf = key.rpartition(".")
        (config[section] if section else config)[leaf] = value
    return config


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    """evaluated(name="", **{"eval.key": value}), of one tiny run, and its directory with one evaluation."""
    workdir = tmp_path_factory.mktemp("names") / "run"
    train.train_and_evaluate(make(), workdir, digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda config: digits)

        def evaluated(name="", **overrides):
            return workdirs.evaluate_workdir(make(**overrides), workdir, name)

        evaluated()
        yield evaluated, workdir


@pytest.fixture
def unmeasured(monkeypatch):
    """Fails where an evaluation is begun at all."""
    monkeypatch.setattr(workdirs, "evaluate_each", lambda *args: pytest.fail("was evaluated"))


def test_a_trial_leaves_the_full_evaluation(run):
    evaluated, workdir = run
    path = workdir / "eval" / "regenerated.json"
    before = path.read_bytes()
    trial, trials_path = evaluated(**{"eval.max_examples": 10})
    assert trials_path == workdir / "eval" / "regenerated-max_examples=10.json"
    assert path.read_bytes() == before
    assert json.loads(trials_path.read_text())["examples"] == trial["examples"] == 10
    correct = correctness.read(workdir / "eval" / "regenerated-max_examples=10.npz")
    assert [len(bits) for bits in correct.values()] == [10, 10]
    assert 100 * correct["contrast/5"].sum() / 10 == trial["corruptions"]["contrast"][4]
    whole = correctness.read(workdir / "eval" / "regenerated.npz")
    for cell, bits in correctness.read(workdir / "results.npz").items():
        assert bits.tolist() == whole[cell].tolist() and bits[:10].tolist() == correct[cell].tolist()
    assert json.loads(before)["examples"] == 40


def test_the_same_name_and_settings_replace(run):
    evaluated, _ = run
    _, path = evaluated("mine")
    files.write_json(path, files.read_json(path) | {"step": 1, "params_sha256": "earlier"})
    result, again = evaluated("mine", **{"eval.batch_size": 7})  # no figure depends on it
    assert again == path and json.loads(path.read_text())["params_sha256"] == result["params_sha256"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"eval.max_examples": 10}, "examples"),
        ({"eval.corruptions": ("pixelate",)}, "eval.corruptions"),
        ({"eval.severities": (1, 5)}, "eval.severities"),
        ({"eval.teacher": False, "eval.primary_weights": (0.5, 0.5)}, "eval.teacher, eval.primary_weights"),
    ],
)
def test_other_settings_under_a_name_in_use_are_refused_before_any_work(run, unmeasured, change, named):
    evaluated, workdir = run
    path = workdir / "eval" / "regenerated.json"
    before = path.read_bytes()
    with pytest.raises(
        ConfigError, match=rf"regenerated\.json: .* differs in {re.escape(named)}; .*--eval_name"
    ):
        evaluated("regenerated", **change)
    assert path.read_bytes() == before


def test_a_finished_run_adapts_and_stands_apart(run, digits, capsys):
    """Its figures are those of `Model.apply` in training; never a reference, nor a row, beside others."""
    evaluated, workdir = run
    adapting = {"eval.adaptation": "batch_norm", "eval.adaptation_prior": 0.0}
    adapting |= {"eval.adaptation_batch_size": 20, "eval.teacher": False}
    plain, _ = evaluated()
    result, path = evaluated("adapted", **adapting)
    student = predict.load(workdir)
    order = np.random.RandomState(20_261).permutation(40)
    hits, surprise = 0, 0.0
    for batch in (order[:20], order[20:]):
        images = digits.test_images[batch] / np.float32(255)
        outputs, _ = student.model.apply(student.variables, images, train=True)
        logits, labels = np.float64(outputs.logits), digits.test_labels[batch]
        hits += int((logits.argmax(-1) == labels).sum())
        surprise += np.sum(np.log(np.exp(logits).sum(-1)) - logits[np.arange(20), labels])
    assert result["clean_accuracy"] == 100 * hits / 40
    assert result["clean"]["nll"] == pytest.approx(surprise / 40, rel=1e-4)
    assert abs(result["clean"]["nll"] - plain["clean"]["nll"]) > 0.01
    settings = {"adaptation_batch_size": 20, "adaptation_prior": 0.0}
    assert result["adaptation"] == {"kind": "batch_norm", "settings": settings}
    assert result["params_sha256"] == plain["params_sha256"]
    with pytest.raises(ConfigError, match=r"adapted\.json: .* differs in adaptation; "):
        evaluated("adapted", **{"eval.teacher": False})
    path.rename(workdir / "adapted.json")  # aside: the run's own evaluation is no reference for it
    with pytest.raises(ConfigError, match=r"results\.json differs in adaptation;"):
        evaluated("against", **adapting, **{"eval.reference": str(workdir)})
    (workdir / "adapted.json").rename(path)
    like, _ = evaluated("against", **adapting, **{"eval.reference": str(workdir)})
    assert like["against_reference"]["mce"] == pytest.approx(100)
    capsys.readouterr()
    assert report.main([str(workdir)]) == 0
    out = capsys.readouterr().out
    beside, apart = out.split("evaluations beside the runs' own")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in apart.splitlines()]
    (row,) = (row for row in rows if row[:2] == [str(workdir), "adapted"])
    assert row[-1] == "batch_norm (batch_size 20, prior 0)"
    assert "| adapted " not in beside and "not to be compared with a student's that was not" in apart
    assert summary.text(result).startswith(
        "ADAPTED to these very images by batch_norm (batch_size 20, prior 0)"
    )


def test_a_file_that_is_no_evaluation_is_not_replaced(run, unmeasured):
    evaluated, workdir = run
    (workdir / "eval").mkdir(exist_ok=True)
    for text in ("{", "[]", "{}", '{"config": {"eval": 1}}'):
        (workdir / "eval" / "notes.json").write_text(text)
        with pytest.raises(ConfigError, match=r"notes\.json: no result of an evaluation"):
            evaluated("notes")
    (workdir / "eval" / "notes.json").unlink()


def test_a_name_is_one_process_at_a_time(run, unmeasured):
    evaluated, workdir = run
    held = lock(workdir / "eval" / ".twice.lock", wait=False)
    with held, pytest.raises(CheckpointError, match="another process"):
        evaluated("twice")
    assert not (workdir / "eval" / "twice.json").exists()


@pytest.mark.parametrize("name", ["a/b", "../x", ".hidden", "a b", "x" * 101, "a\n", "ä"])
def test_a_name_that_is_no_file_name_is_refused(run, unmeasured, name):
    evaluated, _ = run
    with pytest.raises(ConfigError, match="--eval_name"):
        evaluated(name)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "regenerated"),
        ({"eval.batch_size": 3, "eval.clean_every_epochs": 5}, "regenerated"),
        ({"eval.max_examples": 100}, "regenerated-max_examples=100"),
        (
            {"eval.severities": (1, 5), "eval.corruptions": ("fog", "snow")},
            "regenerated-corruptions=fog+snow-severities=1+5",
        ),
        ({"eval.source": "cifar10_1"}, "cifar10_1"),
        ({"eval.source": "cifar10_c", "eval.dir": "some/CIFAR-10-C/"}, "cifar10_c-dir=CIFAR-10-C"),
        ({"eval.teacher": False}, "regenerated-teacher=False"),
        ({"eval.split": "test"}, "regenerated-split=test"),
        ({"eval.adaptation": "tent", "eval.adaptation_prior": 4.0}, "regenerated-adaptation=tent"),
        (
            {"eval.adaptation": "batch_norm", "eval.adaptation_prior": 4.0},
            "regenerated-adaptation=batch_norm-adaptation_prior=4.0",
        ),
        ({"eval.adaptation_learning_rate": 1.0}, "regenerated"),
    ],
)
def test_a_name_says_what_differs_from_the_runs_own(change, name):
    assert names.default(make(**change), make()) == name


def test_long_and_odd_values_are_short_safe_and_told_apart():
    own, found = make(), set()
    nineteen = make().eval.corruptions * 19
    for corruptions in (nineteen, (*nineteen, "fog"), ("a/b",), ("a:b",)):
        for directory in ("/tmp/" + "x" * 200, "/tmp/" + "y" * 200, "/tmp/ä b"):
            changes = {"eval.corruptions": corruptions, "eval.dir": directory, "eval.source": "cifar10_c"}
            changes["eval.reference"] = "runs/erm/seed0"
            name = names.default(make(**changes), own)
            assert command.is_eval_name(name)
            assert name == names.default(make(**changes), own)
            found.add(name)
    assert len(found) == 12


def test_a_run_of_older_keys_is_no_obstacle():
    own = make().unlock()
    del own.eval["teacher"]
    assert names.default(make(), own) == "regenerated-teacher=True"


def test_several_runs_in_one_command_as_each_by_itself(run, digits, tmp_path, capsys):
    _, workdir = run
    other = tmp_path / "other"
    train.train_and_evaluate(make(seed=1), other, digits)
    capsys.readouterr()
    own = ["--config.eval.severities=3,5", "--config.eval.max_examples=30", "--eval_name=few"]
    assert evaluation.main([str(workdir), str(other), *own]) == 0
    said = capsys.readouterr().out.splitlines()
    together = [(path / "eval" / "few.json").read_bytes() for path in (workdir, other)]
    for line, path, written in zip(said, (workdir, other), together, strict=True):
        result = json.loads(written)
        assert line == (
            f"clean {result['clean_accuracy']:.2f}%, robust {result['robust_accuracy']:.2f}%: "
            f"{path / 'eval' / 'few.json'}"
        )
        evaluated = command.parse(["--mode=eval", f"--workdir={path}", *own])
        (path / "eval" / "few.json").unlink()
        workdirs.evaluate_workdir(evaluated.config, path, "few")
        assert (path / "eval" / "few.json").read_bytes() == written
    assert json.loads(together[0])["params_sha256"] != json.loads(together[1])["params_sha256"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["RUN", "RUN"], "a directory is named twice"),
        (["RUN", "OTHER"], "OTHER: config.eval.max_examples not as in RUN"),
        (["RUN", "OTHER", "--config.eval.adaptation=batch_norm"], "config.eval.adaptation: 'batch_norm'; "),
        (["RUN", "--onnx=x.onnx"], "either directories of finished runs, or --onnx=FILE"),
        ([], "either directories of finished runs, or --onnx=FILE"),
        (["RUN", "--out=x.json", "--data=digits"], "--data: allowed with --onnx alone"),
        (["RUN", "--config=configs/erm.py"], "--config: allowed with --onnx alone"),
        (["--onnx=x.onnx", "--eval_name=x"], "--eval_name: allowed with directories"),
        (["gone"], "gone/config.json: no such file"),
    ],
)
def test_what_cannot_be_evaluated_together_is_refused(run, unmeasured, tmp_path, capsys, words, named):
    _, workdir = run
    (tmp_path / "other").mkdir()
    config = files.read_json(workdir / "config.json")
    config["eval"]["max_examples"] = 7
    files.write_json(tmp_path / "other" / "config.json", config)
    places = {"RUN": str(workdir), "OTHER": str(tmp_path / "other")}

    def placed(text):
        return functools.reduce(lambda text, name: text.replace(name, places[name]), places, text)

    assert evaluation.main([placed(word) for word in words]) == 2
    assert placed(named) in capsys.readouterr().err
