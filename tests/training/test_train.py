"""The step, the loop, resuming, stopping: on a network and data small enough to train for real."""

import dataclasses
import errno
import functools
import json
import os
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from craft_jax import files, mesh, models, streams, views
from craft_jax.errors import CheckpointError, ConfigError, DataError, Interrupted, TrainingStopped
from craft_jax.evaluation import correctness, evaluate
from craft_jax.runs import checkpoint, results
from craft_jax.training import batches, interrupt, train
from craft_jax.training.optimizer import make_optimizer
from craft_jax.training.step import (
    begin,
    histogram,
    init_state,
    initial,
    jit_step,
    make_run,
    train_step,
)
from tests.conftest import some_slow


def one_step(config, digits, teacher_variables=(), teacher_model=None):
    """(run, state before, batch, state after, metrics) of the first step."""
    run = make_run(config, digits, None, 12)._replace(teacher=teacher_model)
    before = init_state(run, (16, 16, 3), digits.train_labels)
    batch = batches.Batches(digits, config.batch_size, config.seed, run.mesh)(0)
    before = begin(run, before, teacher_variables, batch)
    after, metrics = jax.jit(lambda s, t, b: train_step(run, s, t, b))(before, teacher_variables, batch)
    return run, before, batch, after, metrics


@pytest.fixture(scope="module")
def teacher(digits):
    model = models.build("tiny", 10, dtype="float32", mean=digits.mean, std=digits.std)
    return model, model.init(jax.random.key(7), (1, 16, 16, 3))


def test_kernels_held_as_a_gpu_reads_them_train_as_any(make_config, digits, monkeypatch):
    found = {}
    for platform in ("none", "cpu"):
        monkeypatch.setattr(mesh, "_NVIDIA", (platform,))  # a CPU has other orders too
        run = make_run(make_config("erm"), digits, None, 12)
        fresh, abstract = initial(run, digits)
        state = jax.device_put(jax.device_get(fresh()), jax.tree.map(lambda x: x.sharding, abstract))
        state = mesh.hold(state)  # as restored
        batch = batches.Batches(digits, run.config.batch_size, 0, run.mesh)(0)
        state, metrics = jit_step(run, state)(state, (), batch)
        found[platform] = jax.device_get((state, metrics))
        for kernel in (state["student"]["params"], state["optimizer"][1][0].trace["student"]):
            order = kernel["stem_conv"]["kernel"].format.layout.major_to_minor
            assert order == ((3, 0, 1, 2) if platform == "cpu" else (0, 1, 2, 3))
        assert fresh()["student"]["params"]["stem_conv"]["kernel"].format.layout.major_to_minor == order
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), *found.values())


def test_optimizer_is_sgd_with_coupled_decay_momentum_and_a_cosine(make_config):
    config = make_config(
        **{"optimizer.learning_rate": 0.2, "optimizer.momentum": 0.8, "optimizer.weight_decay": 0.03}
    )
    steps = 5
    optimizer, schedule = make_optimizer(config, steps)
    params = {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])}
    state = optimizer.init(params)
    w, velocity = np.array([1.0, -2.0, 0.5]), np.zeros(3)
    for step in range(steps):
        gradient = np.array([0.3, -0.1, 0.2]) * (step + 1)
        tree = {"kernel": jnp.asarray(gradient[:2]), "bias": jnp.asarray(gradient[2:])}
        updates, state = optimizer.update(tree, state, params)
        params = optax.apply_updates(params, updates)
        rate = 0.2 * 0.5 * (1 + np.cos(np.pi * step / steps))
        velocity = 0.8 * velocity + gradient + 0.03 * w
        w = w - rate * velocity
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)
    np.testing.assert_allclose(params["kernel"], w[:2], rtol=1e-5)
    np.testing.assert_allclose(params["bias"], w[2:], rtol=1e-5)


def test_a_step_is_the_gradient_of_the_mean_cross_entropy(make_config, digits):
    config = make_config("erm")
    run, before, batch, after, metrics = one_step(config, digits)
    key = streams.stream(config.seed, 0, streams.CROPS)
    images = views.crop_and_flip(key, batch["image"], 4, flip=False).astype(jnp.float32) / 255

    def loss(params):
        variables = {"params": params, "batch_stats": before["student"]["batch_stats"]}
        outputs, _ = run.student.apply(variables, images, True)
        picked = jnp.take_along_axis(jax.nn.log_softmax(outputs.logits), batch["label"][:, None], 1)
        return -picked.mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(before["student"]["params"])
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-5)
    assert float(metrics["gradient_norm"]) == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-4)
    expected = jax.tree.map(lambda p, g: p - 0.1 * (g + 5e-4 * p), before["student"]["params"], gradient)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after["student"]["params"], expected
    )
    assert int(after["step"]) == 1


@pytest.mark.slow
def test_only_the_views_that_are_read_enter_the_batch_statistics(make_config, digits, teacher):
    model, variables = teacher
    statistics = {}
    for method in ("erm", "kd", "craft"):
        state = one_step(make_config(method), digits, variables, model)[3]
        statistics[method] = np.concatenate(
            [np.ravel(x) for x in jax.tree.leaves(state["student"]["batch_stats"])]
        )
    np.testing.assert_allclose(statistics["kd"], statistics["erm"], atol=1e-6)
    assert np.abs(statistics["craft"] - statistics["erm"]).max() > 1e-3


def test_a_crafts_step_trains_the_projections_and_counts_the_reliability(make_config, digits, teacher):
    model, variables = teacher
    _, before, _, after, metrics = one_step(make_config("craft"), digits, variables, model)
    assert [p.shape for p in before["method"]["projections"]] == [(4, 4), (4, 4), (8, 8)]
    for old, new in zip(before["method"]["projections"], after["method"]["projections"], strict=True):
        assert np.abs(new - old).max() > 1e-6
    assert float(metrics["reliability_histogram"].sum()) == 16
    terms = [v for k, v in metrics.items() if k.startswith("loss/")]
    assert len(terms) == 4
    assert float(metrics["loss"]) == pytest.approx(float(sum(terms)), rel=1e-5)


def test_the_histogram_is_numpys():
    edges = np.linspace(0, 1, 11, dtype=np.float32)
    beside = [np.nextafter(edges, np.float32(to)).clip(0, 1) for to in (-1, 2)]
    for values in (np.random.default_rng(0).random(500, np.float32), edges, *beside):
        found = histogram(jnp.asarray(values), 10)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, np.histogram(values, edges)[0])


def test_the_state_is_donated(make_config, digits):
    config = make_config("erm")
    run = make_run(config, digits, None, 12)
    state = jax.eval_shape(lambda: init_state(run, (16, 16, 3), digits.train_labels))
    batch = batches.Batches(digits, config.batch_size, config.seed, run.mesh)(0)
    lowered = jit_step(run).lower(state, (), batch)
    leaves = len(jax.tree.leaves(state))
    assert (
        lowered.as_text().count("tf.aliasing_output") + lowered.as_text().count("jax.buffer_donor") == leaves
    )


def test_training_learns_and_writes_a_whole_result(make_config, digits, tmp_path):
    config = make_config("erm", epochs=80, **{"log.every_steps": 20, "log.tensorboard": True})
    result = train.train_and_evaluate(config, tmp_path / "run", digits)
    assert result["clean_accuracy"] > 40  # chance is 10; 72 training images
    on_disk = files.read_json(tmp_path / "run" / "results.json")
    assert on_disk == json.loads(json.dumps(result))
    expected = {"status": "done", "method": "erm", "dataset": "digits", "seed": 0, "nan_count": 0}
    assert {k: result[k] for k in expected} == expected
    assert result["resumed_from"] == []
    assert result["teacher"] is None
    (cells,) = result["corruptions"].values()
    assert cells[:4] == [None] * 4
    assert result["robust_accuracy"] == pytest.approx(cells[4])
    assert result["primary_metric"] == pytest.approx(0.25 * result["clean_accuracy"] + 0.75 * cells[4])
    assert result["config"]["student"]["name"] == "tiny"
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    variables, step = checkpoint.restore_student(tmp_path / "run")
    assert step == 320
    assert checkpoint.params_sha256(variables) == result["params_sha256"]


class Killed(BaseException):
    """Stands in for a signal: nothing in the package catches it."""


def kill_at(monkeypatch, step):
    original = batches.Batches.__call__

    def call(self, number):
        if number == step:
            raise Killed
        return original(self, number)

    monkeypatch.setattr(batches.Batches, "__call__", call)


@pytest.mark.parametrize("method", some_slow(["erm", "crd", "craft"], ["crd"]))
def test_a_run_that_was_stopped_ends_as_one_that_was_not(method, make_config, digits, tmp_path, monkeypatch):
    config = make_config(method)
    whole = train.train_and_evaluate(config, tmp_path / "whole", digits)
    with monkeypatch.context() as patch:
        kill_at(patch, 6)
        with pytest.raises(Killed):
            train.train_and_evaluate(config, tmp_path / "cut", digits)
    assert not (tmp_path / "cut" / "results.json").exists()
    resumed = train.train_and_evaluate(config, tmp_path / "cut", digits)
    assert resumed["resumed_from"] == [4]
    assert resumed["params_sha256"] == whole["params_sha256"]
    assert resumed["corruptions"] == whole["corruptions"]

    def lines(name):
        rows = [json.loads(x) for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]

    assert lines("cut") == lines("whole")
    assert [row["step"] for row in lines("whole")] == list(range(1, 13))


@pytest.mark.parametrize("moment", some_slow(["step", "evaluation"], ["step"]))
def test_a_signal_saves_the_step_and_leaves(make_config, digits, tmp_path, monkeypatch, moment):
    config = make_config("erm", **{"eval.clean_every_epochs": 1, "checkpoint.every_steps": 1000})
    whole = train.train_and_evaluate(config, tmp_path / "whole", digits)
    with monkeypatch.context() as patch:
        patch.setattr(interrupt, "_asked", threading.Event())
        place, name = (batches.Batches, "__call__") if moment == "step" else (evaluate, "clean_accuracy")
        original, calls = getattr(place, name), iter(range(100))

        def call(*args):
            if next(calls) == (5 if moment == "step" else 0):
                interrupt._asked.set()
            return original(*args)

        patch.setattr(place, name, call)
        step = 6 if moment == "step" else 5  # the evaluation after step 4 is given up, a step done, and saved
        with pytest.raises(Interrupted, match=f"from step {step}, which is saved"):
            train.train_and_evaluate(config, tmp_path / "cut", digits)
    assert checkpoint.restore_student(tmp_path / "cut")[1] == step
    assert not (tmp_path / "cut" / "results.json").exists()
    resumed = train.train_and_evaluate(config, tmp_path / "cut", digits)
    assert resumed["resumed_from"] == [step]
    assert resumed["params_sha256"] == whole["params_sha256"]

    def lines(name):
        rows = [json.loads(x) for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]

    expected = lines("whole")
    assert [row["step"] for row in expected if "clean_accuracy" in row] == [4, 8, 12]
    if moment == "evaluation":
        del expected[3]["clean_accuracy"]
    assert lines("cut") == expected


def test_a_finished_run_always_says_which_images_were_right(make_config, digits, tmp_path, monkeypatch):
    """Of the student, as its accuracies do; they are written before what marks the run as done."""
    config = make_config("kd", epochs=1)
    with monkeypatch.context() as patch:

        def kill(*args):
            raise Killed

        patch.setattr(train.results, "write", kill)
        with pytest.raises(Killed):
            train.train_and_evaluate(config, tmp_path, digits)
    (teacher,) = (path for path in (tmp_path / "teachers").iterdir() if path.is_dir())
    assert (teacher / "results.npz").exists() and not (teacher / "results.json").exists()
    result = train.train_and_evaluate(config, tmp_path, digits)
    correct = correctness.read(tmp_path / "results.npz")
    assert list(correct) == ["clean", "contrast/5"]
    assert 100 * int(correct["clean"].sum()) / 40 == result["clean_accuracy"]
    assert 100 * int(correct["contrast/5"].sum()) / 40 == result["corruptions"]["contrast"][4]


def test_a_finished_run_is_not_repeated(make_config, digits, tmp_path, monkeypatch):
    config = make_config("erm", epochs=1)
    first = train.train_and_evaluate(config, tmp_path, digits)
    kill_at(monkeypatch, 0)
    monkeypatch.setattr(evaluate, "evaluate", None)
    assert train.train_and_evaluate(config, tmp_path, digits) == json.loads(json.dumps(first))


def test_a_run_cut_between_training_and_result_only_evaluates(make_config, digits, tmp_path, monkeypatch):
    config = make_config("erm", epochs=1)
    first = train.train_and_evaluate(config, tmp_path, digits)
    (tmp_path / "results.json").unlink()
    kill_at(monkeypatch, 0)
    again = train.train_and_evaluate(config, tmp_path, digits)
    assert again["params_sha256"] == first["params_sha256"]
    assert again["corruptions"] == first["corruptions"]


def test_a_loss_that_is_not_finite_stops_the_run(make_config, digits, tmp_path):
    config = make_config("erm", **{"optimizer.learning_rate": 1e18, "checkpoint.every_steps": 1})
    with pytest.raises(TrainingStopped, match=r"stopped at step \d+: .*loss/ce") as stop:
        train.train_and_evaluate(config, tmp_path, digits)
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["status"] == "stopped"
    assert result["nan_count"] == 1
    assert result["stopped_at_step"] == stop.value.facts["stopped_at_step"]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["nan_count"] for row in rows] == [0] * (len(rows) - 1) + [1]
    assert rows[-1]["step"] == result["stopped_at_step"]
    variables, step = checkpoint.restore_student(tmp_path)
    assert step < result["stopped_at_step"]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables))


@pytest.mark.parametrize("every", [1, 5])
def test_bad_steps_are_counted_alike_however_often_it_logs(make_config, digits, tmp_path, every):
    settings = {"optimizer.learning_rate": 1e18, "checkpoint.every_steps": 1000, "log.every_steps": every}
    with pytest.raises(TrainingStopped):
        train.train_and_evaluate(make_config("erm", **settings), tmp_path, digits)
    result = json.loads((tmp_path / "results.json").read_text())
    assert (result["stopped_at_step"], result["nan_count"]) == (2, 1)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last == {"step": 2, "nan_count": 1}


def test_a_missing_reference_or_file_is_said_before_the_training(make_config, digits, tmp_path, monkeypatch):
    kill_at(monkeypatch, 0)
    files = {"eval.source": "cifar10_c", "eval.dir": str(tmp_path)}
    for settings, message in (
        (
            {"eval.reference": str(tmp_path / "nowhere")},
            r"config\.eval\.reference: .*nowhere has no results\.json",
        ),
        (files, r"contrast\.npy is missing"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            train.train_and_evaluate(make_config("erm", **settings), tmp_path / "run", digits)
        assert not (tmp_path / "run").exists()


def test_another_configuration_in_the_same_workdir_is_refused(make_config, digits, tmp_path):
    config = make_config("erm", epochs=1)
    train.train_and_evaluate(config, tmp_path, digits)
    before = (tmp_path / "results.json").read_text()
    changed = make_config("erm", epochs=2, seed=3, **{"eval.batch_size": 8})
    with pytest.raises(CheckpointError) as error:
        train.train_and_evaluate(changed, tmp_path, digits)
    assert "config.epochs: 1 in the working directory, 2 now" in str(error.value)
    assert "config.seed: 0 in the working directory, 3 now" in str(error.value)
    assert "eval.batch_size" not in str(error.value)
    assert (tmp_path / "results.json").read_text() == before


def test_a_half_deleted_directory_is_refused_or_gives_the_same(make_config, digits, tmp_path):
    """Stopped before its result, with one more thing gone: no other run's work may be gone on from."""
    config = make_config("kd", epochs=1)
    whole, half = tmp_path / "whole", tmp_path / "half"
    done = train.train_and_evaluate(config, whole, digits)
    for gone, told in (
        ("config.json", "half/config.json: gone, and .* is there"),
        ("dataset.json", "half/dataset.json: no such file"),
        ("teacher.json", "half/teacher.json: gone; put it back"),
        ("metrics.jsonl", ""),
        ("checkpoints", ""),
    ):
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(whole, half)
        (half / "results.json").unlink()
        (shutil.rmtree if (half / gone).is_dir() else os.unlink)(half / gone)
        before = sorted(half.rglob("*"))
        if told:
            with pytest.raises(CheckpointError, match=told):
                train.train_and_evaluate(config, half, digits)
            assert sorted({*half.rglob("*")} - {half / ".lock"}) == [p for p in before if p.name != ".lock"]
        else:
            again = train.train_and_evaluate(config, half, digits)
            assert again["params_sha256"] == done["params_sha256"]


def test_a_run_holds_its_directory_while_its_teacher_trains(make_config, digits, tmp_path, monkeypatch):
    """Or another could take it meanwhile, and the teacher's hours would be lost."""

    def slow_teacher(config, dataset):
        train.train_and_evaluate(make_config("erm", epochs=1), tmp_path, digits)

    monkeypatch.setattr(train, "_trained_teacher", slow_teacher)
    with pytest.raises(CheckpointError, match="another process is running in it"):
        train.train_and_evaluate(make_config("kd", epochs=1), tmp_path, digits)


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_workdir_that_cannot_be_is_refused_before_any_work(
    make_config, digits, tmp_path, monkeypatch, place
):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(train, "_trained_teacher", None)
    with pytest.raises(CheckpointError, match="file is not a directory"):
        train.train_and_evaluate(make_config("kd"), tmp_path / place, digits)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_workdir_that_cannot_be_written_to_is_refused_before_any_work(
    make_config, digits, tmp_path, monkeypatch
):
    """Not by permissions, which do not hold root: by what stands in the way, and by a full disk."""
    monkeypatch.setattr(train, "_trained_teacher", None)
    config = make_config("kd")
    (tmp_path / "a" / ".lock").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"a: cannot be written to \(Is a directory\)"):
        train.train_and_evaluate(config, tmp_path / "a", digits)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "checkpoints").write_text("mine")
    with pytest.raises(CheckpointError, match=r"b/checkpoints: cannot be written to \(File exists\)"):
        train.train_and_evaluate(config, tmp_path / "b", digits)

    def full(dir):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", full)
    with pytest.raises(CheckpointError, match=r"c: cannot be written to \(No space left on device\)"):
        train.train_and_evaluate(config, tmp_path / "c", digits)
    assert not (tmp_path / "teachers").exists()


def test_a_teachers_cache_that_cannot_be_written_to_is_refused_before_any_work(
    make_config, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(train, "_train_teacher", None)
    (tmp_path / "file").write_text("mine")
    config = make_config("kd", **{"teacher.cache": str(tmp_path / "file" / "teachers")})
    with pytest.raises(CheckpointError, match="teachers: cannot be written to"):
        train.train_and_evaluate(config, tmp_path / "run", digits)


def test_the_first_lines_name_the_classes_and_those_without_images(make_config, digits, tmp_path, capsys):
    """Labels that begin at 1 make one class too many."""
    config = make_config("erm", epochs=1)
    run, shifted = make_run(config, digits, None, 4), digits.train_labels + 1
    tests = np.minimum(digits.test_labels + 1, 9)
    for dataset, line in (
        (digits, "classes: 10"),
        (
            dataclasses.replace(digits, num_classes=11, train_labels=shifted, test_labels=tests),
            "classes: 11; no training image of class 0; no test image of class 0, 10",
        ),
        (
            dataclasses.replace(digits, num_classes=40, validation_labels=digits.test_labels),
            "classes: 40; no training image of class 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ...; "
            "no validation image of class 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ...",
        ),
    ):
        results.describe(run, tmp_path, dataset, None, 4)
        assert line in capsys.readouterr().out.splitlines()[:5]


def test_other_data_in_the_same_workdir_is_refused(make_config, digits, tmp_path):
    config = make_config("erm", epochs=1)
    train.train_and_evaluate(config, tmp_path, digits)
    with pytest.raises(CheckpointError, match="fingerprint"):
        train.train_and_evaluate(config, tmp_path, dataclasses.replace(digits, fingerprint="other"))


def test_a_batch_larger_than_the_data_is_refused_before_anything_is_written(make_config, digits, tmp_path):
    config = make_config("erm", batch_size=80)
    with pytest.raises(DataError, match="batch_size: 80"):
        train.train_and_evaluate(config, tmp_path / "run", digits)
    assert not (tmp_path / "run").exists()


def test_bfloat16_computes_in_it_and_trains_float32_parameters(make_config, digits):
    config = make_config("erm", dtype="bfloat16")
    run, _, _, after, metrics = one_step(config, digits)
    images = jnp.zeros((2, 16, 16, 3))
    outputs = jax.eval_shape(lambda: run.student.apply(after["student"], images, True)[0])
    assert [stage.dtype for stage in outputs.stages] == [jnp.bfloat16] * 3
    assert all(
        x.dtype == jnp.float32 for x in jax.tree.leaves((after["student"], after["optimizer"])) if x.ndim
    )
    full = one_step(make_config("erm"), digits)[4]
    assert float(metrics["loss"]) == pytest.approx(float(full["loss"]), rel=0.02)
    assert float(metrics["loss"]) != float(full["loss"])
