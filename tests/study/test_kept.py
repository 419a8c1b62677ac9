"""Results that outlive the machine: names that last, and no result that is another's."""

import json
import re

import numpy as np
import pytest

from craft_jax import streams
from craft_jax.config import changes, tree
from craft_jax.errors import CheckpointError
from craft_jax.study import Arm, Study, kept, plan

SHA = "0123abcd"


def run_of(tmp_path, overrides=(), arm="erm", file="configs/erm.py:smoke"):
    (run,) = plan.runs(Study({arm: Arm(file, dict(overrides))}, (0,), arm), tmp_path)
    return run


def test_a_name_is_of_arm_seed_teacher_and_changes(tmp_path):
    run = run_of(tmp_path)
    name = kept.name_of(run, SHA)
    assert re.fullmatch("erm-seed0-[0-9a-f]{10}", name)
    assert kept.name_of(run, "another") != name
    assert kept.name_of(run_of(tmp_path, {"epochs": 2}), SHA) != name
    assert kept.name_of(run_of(tmp_path, {"eval.max_examples": 7}), SHA) != name
    for key, value in (
        ("data.dir", "there"),
        ("log.every_steps", 3),
        ("checkpoint.keep", 5),
        ("eval.batch_size", 9),
        ("teacher.cache", "there"),
    ):
        assert kept.name_of(run_of(tmp_path, {key: value}), SHA) == name, key


def test_a_key_that_comes_later_changes_no_name(tmp_path, monkeypatch):
    """A default with one key more, which the run leaves as it is."""
    run = run_of(tmp_path)
    before = kept.name_of(run, SHA)

    with_another = {**changes.defaults(), "brand_new": 3}
    monkeypatch.setattr(changes, "defaults", lambda: with_another)
    assert kept.name_of(run, SHA) == before
    later = run.config.copy_and_resolve_references().unlock()
    later.brand_new = 3
    assert kept.name_of(plan.Run("erm", 0, run.spec, (), later, run.workdir, ""), SHA) == before
    later.brand_new = 4
    assert kept.name_of(plan.Run("erm", 0, run.spec, (), later, run.workdir, ""), SHA) != before


def finish(run, **changes):
    """A finished run as far as its small files go."""
    run.workdir.mkdir(parents=True, exist_ok=True)
    (run.workdir / "config.json").write_text(json.dumps(tree.to_json(run.config)))
    result = {"status": "done", "draws": streams.DRAWS, "teacher": None} | changes
    (run.workdir / "results.json").write_text(json.dumps(result))
    (run.workdir / "results.npz").write_bytes(b"bits")


def test_what_is_kept_counts_though_the_directory_is_gone(tmp_path):
    run, folder = run_of(tmp_path / "a"), tmp_path / "kept"
    assert kept.result_path(run, folder, []) is None
    finish(run)
    assert kept.result_path(run, folder, []) == run.workdir / "results.json"
    (run.workdir / "eval").mkdir()
    for name in (
        "bar.json",
        "bar.npz",
        ".bar.lock",
        "bar.json.0f.tmp",
    ):  # the last of a process that was killed
        (run.workdir / "eval" / name).write_text("x")
    path = kept.keep(run, folder)
    beside = {one.name.removeprefix(path.stem) for one in folder.iterdir()}
    assert beside == {".json", ".npz", ".eval.bar.json", ".eval.bar.npz"}
    elsewhere = run_of(tmp_path / "b")
    assert kept.result_path(elsewhere, folder, []) == path
    assert path.read_bytes() == (run.workdir / "results.json").read_bytes()
    assert path.with_suffix(".npz").read_bytes() == b"bits"
    assert kept.result_path(run_of(tmp_path / "b", {"epochs": 2}), folder, []) is None
    finish(run, status="stopped")
    assert kept.result_path(run_of(tmp_path / "b"), None, []) is None


def test_a_part_of_the_curves_is_kept_with_every_evaluation(tmp_path):
    run, folder = run_of(tmp_path / "a"), tmp_path / "kept"
    finish(run)
    lines = [
        {"step": step, "loss": 1.0} | ({"clean_accuracy": 9.0} if step == 7 else {}) for step in range(1, 302)
    ]
    (run.workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run.workdir / "features.json").write_text("{}")
    path = kept.keep(run, folder)
    steps = [json.loads(line)["step"] for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert steps == sorted({*range(6, 302, 6), 7, 301})
    assert path.with_suffix(".features.json").read_text() == "{}"


def test_another_run_in_its_place_is_refused(tmp_path):
    finish(run_of(tmp_path))
    for key, value in (("epochs", 2), ("eval.max_examples", 7)):
        with pytest.raises(CheckpointError, match=f"holds another run, which differs in {key};"):
            kept.result_path(run_of(tmp_path, {key: value}), None, [])


def test_a_result_of_other_draws_is_refused(tmp_path):
    run = run_of(tmp_path / "a")
    finish(run, draws="old")
    kept.keep(run, tmp_path / "kept")
    for out in ("a", "b"):  # its own directory, and the folder
        with pytest.raises(CheckpointError, match=f"of draws old, this version's are {streams.DRAWS}"):
            kept.result_path(run_of(tmp_path / out), tmp_path / "kept", [])


def test_a_teacher_is_found_by_its_recipe(tmp_path):
    run = run_of(tmp_path, arm="kd", file="configs/kd.py:smoke")
    place = tmp_path / "teachers" / "one"
    place.mkdir(parents=True)
    wanted = tree.teacher_config(run.config)
    (place / "config.json").write_text(json.dumps(tree.to_json(wanted)))
    (place / "dataset.json").write_text(json.dumps({"fingerprint": "f"}))
    assert kept.find_teacher(run, [place]) is None  # not done
    (place / "results.json").write_text(json.dumps({"status": "done", "params_sha256": SHA}))
    assert kept.find_teacher(run, [place]) == place
    assert kept.sha256_of(place) == SHA
    for key, value in (("teacher.epochs", 9), ("data.max_train", 100), ("teacher.seed", 3)):
        other = run_of(tmp_path, {key: value}, "kd", "configs/kd.py:smoke")
        assert kept.find_teacher(other, [place]) is None, key
    assert kept.find_teacher(run_of(tmp_path), [place]) is None  # ERM has none


def save_images(path, brightness):
    rng = np.random.default_rng(0)
    images = {
        f"{part}_images": rng.integers(0, brightness, (40, 16, 16, 3), np.uint8) for part in ("train", "test")
    }
    np.savez(path, **images, **{f"{part}_labels": np.arange(40) % 2 for part in ("train", "test")})


def test_other_images_of_ones_own_are_another_study(tmp_path):
    """The path of an .npz file says nothing: its images do."""
    runs = []
    for place, brightness in (("a", 100), ("b", 100), ("c", 200)):
        (tmp_path / place).mkdir()
        save_images(tmp_path / place / "mine.npz", brightness)
        settings = {"data.name": "npz", "data.dir": str(tmp_path / place / "mine.npz")}
        runs.append(run_of(tmp_path / place, settings))
    names = [kept.name_of(run, SHA) for run in runs]
    assert names[0] == names[1] != names[2]
    recipes = [plan.teacher_recipe(run.config, run.data) for run in runs]
    assert recipes[0] == recipes[1] != recipes[2]


def test_published_files_of_another_folder_are_another_result(tmp_path):
    files = {"eval.source": "cifar10_c", "eval.dir": "one"}
    assert kept.name_of(run_of(tmp_path, files), SHA) != kept.name_of(
        run_of(tmp_path, files | {"eval.dir": "other"}), SHA
    )
