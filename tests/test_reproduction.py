"""The same command gives the same bits: a run is done again from its results file, and compared."""

import json

import pytest

from craft_jax import files, main, streams
from craft_jax.config import command, tree
from craft_jax.report import reproduction
from craft_jax.training import train
from tests.conftest import CONFIGS, SUMMED, some_slow


@pytest.fixture
def trained(make_config, digits, tmp_path, monkeypatch):
    """A function that trains a method's run into `run`, and one for a command with that data."""
    monkeypatch.setattr(train.data, "load", lambda config: digits)

    def first(method, **overrides):
        config = make_config(method, **{"epochs": 1, "compilation_cache": False, **overrides})
        return train.train_and_evaluate(config, tmp_path / "run")

    return first


def written(path, result):
    path.parent.mkdir(exist_ok=True)
    files.write_json(path, result)


def recorded(config):
    return {"status": "done", "config": config, "data": {}, "params_sha256": "", "draws": streams.DRAWS}


def again(tmp_path, *words):
    return main.main([f"--from_results={tmp_path / 'run' / 'results.json'}", *words])


@pytest.mark.parametrize("method", some_slow(sorted({*CONFIGS, *SUMMED}), quick=("crd",)))
def test_every_method_gives_the_same_bits_twice(trained, tmp_path, capsys, method):
    result = trained(method)
    place = tmp_path / "again"
    assert again(tmp_path, f"--workdir={place}", f"--config.teacher.cache={tmp_path / 'others'}") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "the same run, bit for bit"
    other = json.loads((place / "results.json").read_text())
    for name in ("params_sha256", "clean_accuracy", "corruptions", "calibration_bins"):
        assert other[name] == result[name], name
    if result["teacher"]:  # trained anew too
        assert (tmp_path / "others").exists() and "teacher's parameters:" in out


def test_a_run_that_comes_out_otherwise_is_told(trained, tmp_path, capsys):
    result = trained("erm")
    result.pop("sha256", None)
    changed = result | {"params_sha256": "0" * 64, "robust_accuracy": 1.25, "commit": "other"}
    files.write_json(tmp_path / "run" / "results.json", changed)
    assert again(tmp_path, f"--workdir={tmp_path / 'again'}") == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("student's") and line.endswith(" 000000000000 then, OTHER") for line in lines)
    assert any(line.startswith("robust_accuracy:") and line.endswith("1.25 then") for line in lines)
    assert "figures:              OTHER: robust_accuracy" in lines
    assert any(line.startswith("commit:") and line.endswith("; other then") for line in lines)
    assert lines[-1] == "NOT the same run: 2 of the above differ"


def test_a_hash_that_was_not_recorded_is_unknown():
    now = {"data": {"fingerprint": "a", "source_fingerprint": "b"}, "draws": "d", "params_sha256": "p"}
    lines, same = reproduction.compare(now | {"data": {"fingerprint": "a"}, "clean_accuracy": 1.0}, now)
    assert same and any(line.startswith("all images:") and line.endswith("unknown then") for line in lines)
    assert not any("teacher" in line for line in lines)  # neither had one
    assert not reproduction.compare(now | {"teacher": {"params_sha256": "t"}}, now | {"teacher": None}).same


@pytest.mark.parametrize(
    "words, changes, message",
    [
        (["--config.seed=1"], {}, "config.seed: "),
        (["--config.eval.corruptions=contrast"], {}, "allowed beside --from_results: data.dir"),
        (["--mode=eval"], {}, "--mode: 'eval'; allowed beside --from_results: train"),
        ([], {"status": "stopped"}, "is 'stopped'; allowed: one that is done"),
        ([], {"config": 3}, "is not the result of a run"),
        ([], {"draws": "old"}, "(draws: old; of this version: "),
        ([], {"draws": None}, "(draws: not recorded; of this version: "),
        ([], {"method": "mine", "config": {"method": "mine"}}, "config.method: 'mine'"),
    ],
)
def test_what_is_no_repetition_is_refused(tmp_path, capsys, words, changes, message, make_config):
    config = tree.to_json(make_config("erm"))
    if "config" in changes and isinstance(changes["config"], dict):
        changes = changes | {"config": config | changes["config"]}
    result = recorded(config) | changes
    written(tmp_path / "run" / "results.json", result)
    assert again(tmp_path, *words, f"--workdir={tmp_path / 'again'}") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_the_place_of_a_repetition_names_its_file(tmp_path, make_config):
    result = recorded(tree.to_json(make_config("erm")))
    for name, place in (
        ("craft/results.json", "runs/craft_again"),
        ("kd-seed0-ab.json", "runs/kd-seed0-ab_again"),
    ):
        written(tmp_path / name, result)
        assert command.parse([f"--from_results={tmp_path / name}"]).workdir == place
