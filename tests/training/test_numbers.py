"""Values that are not finite: the first bad leaf, its step repeated, updates skipped; and warnings."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses, replay
from craft_jax.errors import TrainingStopped
from craft_jax.mesh import replicated_on
from craft_jax.training import loop, repeat, train
from craft_jax.training.batches import Batches
from craft_jax.training.step import initial, jit_step, make_run, train_step
from craft_jax.training.watch import Watch, tell_constant
from tests.programs import equations


def diverging(make_config, **more):
    return make_config("erm", **{"optimizer.learning_rate": 1e18, "checkpoint.every_steps": 1, **more})


def replayed(capsys, *argv):
    status = replay.main(list(argv))
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err


def metrics_of(lines):
    """{name: text} of what replay prints above its terms."""
    end = next(i for i, line in enumerate(lines) if "of each term" in line)
    return dict(line.split() for line in lines[2:end])


def test_a_stop_names_the_leaf_and_replay_prints_the_step(make_config, digits, tmp_path, capsys, monkeypatch):
    with pytest.raises(TrainingStopped) as stop:
        train.train_and_evaluate(diverging(make_config), tmp_path, digits)
    step, leaf = (stop.value.facts[key] for key in ("stopped_at_step", "stopped_leaf"))
    assert leaf.startswith("the gradient of student/")  # the parameters before it were large, and finite
    assert f"first {leaf}; " in str(stop.value)
    assert f"python -m craft_jax.replay {tmp_path} --step={step} " in str(stop.value)
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["stopped_leaf"] == leaf and result["nan_count"] == 1
    before = sorted(tmp_path.rglob("*"))

    capsys.readouterr()  # what the run said
    monkeypatch.setattr(replay.data, "load", lambda config: digits)
    monkeypatch.setattr(replay.compilation_cache, "use", lambda: None)
    status, lines, _ = replayed(capsys, str(tmp_path), f"--step={step}")
    assert status == 0
    assert lines[0] == f"repeating steps {step} to {step}"
    assert f"first not finite: {leaf}" == lines[-1]
    told = metrics_of(lines)
    assert told["loss/ce"] == "nan"
    path = leaf.removeprefix("the gradient of ").partition(" ")[0]
    (row,) = (line for line in lines if f"  {path}  <- not finite" in line)
    assert row.split()[1] == "nan"

    status, lines, _ = replayed(capsys, str(tmp_path), "--step=1")
    (logged,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][:1]
    told = metrics_of(lines)
    for name in ("loss", "loss/ce", "gradient_norm", "parameter_norm"):
        assert np.float32(told[name]) == np.float32(logged[name]), name  # the same bits as in the run
    norms = [float(line.split()[1]) for line in lines if "  student/" in line]
    assert np.linalg.norm(norms) == pytest.approx(logged["gradient_norm"], rel=1e-4)
    assert lines[-1] == "all of it is finite"

    for wrong, message in (("0", "1 to 12"), ("13", "1 to 12"), ("x", "invalid int")):
        status, lines, errors = replayed(capsys, str(tmp_path), f"--step={wrong}")
        assert (status, lines) == (2, []) and "--step: " in errors and message in errors
    assert replayed(capsys, str(tmp_path / "nowhere"), "--step=1")[0] == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_the_gradients_of_the_terms_add_up(make_config, digits, tmp_path):
    run = make_run(make_config("augmix"), digits, None, 12)
    found = repeat.repeat(run, tmp_path, digits, (), 3, by_term=True)
    assert set(found.terms) == {"ce", "jsd"}
    for path, whole in found.gradient.items():
        parts = sum(gradient[path] for gradient in found.terms.values())
        np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())
    assert repeat.repeat(run, tmp_path, digits, (), 1).terms == {}


def test_a_terms_share_is_of_the_network_alone():
    whole = {
        "student/a": np.float32([3.0, 0.0]),
        "student/b": np.float32([4.0]),
        "method/c": np.float32([9.0]),
    }
    ce = {"student/a": np.float32([0.0, 2.0]), "student/b": np.float32([0.5]), "method/c": np.float32([7.0])}
    found = repeat.Repeated(
        1, 0, {}, whole, whole, whole, {"ce": ce, "none": {k: 0 * v for k, v in ce.items()}}
    )
    rows = {line.split()[-1]: line.split()[:2] for line in replay.table(found).splitlines()}
    norm = (2.0**2 + 0.5**2) ** 0.5
    assert [float(x) for x in rows["ce"]] == pytest.approx([norm, 4 * 0.5 / (5 * norm)], abs=1e-4)
    assert [float(x) for x in rows["none"]] == [0.0, 0.0]


def test_a_leaf_whose_norm_overflows_is_bad_too():
    fine, nan = np.ones(3, np.float32), np.array([1, np.nan], np.float32)
    big = np.full(3, 1e30, np.float32)
    assert not repeat.is_bad(fine) and repeat.is_bad(nan) and repeat.is_bad(big)
    leaves = {"a": fine, "b": fine}
    found = repeat.Repeated(1, 0, {}, leaves, {"a": fine, "b": nan}, {"a": nan, "b": nan}, {})
    assert found.first_bad() == "the gradient of b"
    assert found._replace(gradient=leaves).first_bad() == "the new a (2 of 2 leaves)"
    assert found._replace(gradient=leaves, after=leaves).first_bad() == ""


def test_bad_updates_are_skipped_up_to_a_limit(make_config, digits, tmp_path, capsys):
    config = diverging(make_config, **{"optimizer.skip_nonfinite": 2, "checkpoint.every_steps": 4})
    with pytest.raises(TrainingStopped) as stop:
        train.train_and_evaluate(config, tmp_path, digits)
    # The first update spoils the network: every step after it is bad, the third too many.
    assert {k: stop.value.facts[k] for k in ("stopped_at_step", "nan_count")} == {
        "stopped_at_step": 4,
        "nan_count": 3,
    }
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["nan_count"] for row in rows] == [0, 1, 2, 3]
    assert "loss" in rows[0] and "loss" not in rows[1] and rows[1]["learning_rate"] > rows[2]["learning_rate"]
    assert "note: step 2: loss/ce not finite; skipped, 1 of 2" in capsys.readouterr().err


def test_a_skipped_step_changes_counters_alone(make_config, digits):
    runs = [make_run(make_config("erm", **{"optimizer.skip_nonfinite": n}), digits, None, 12) for n in (0, 5)]
    states = [initial(run, digits)[0]() for run in runs]
    assert states[1].keys() - states[0].keys() == {"skipped"}
    batch = Batches(digits, 16, 0, runs[0].mesh)(0)
    # Off, there is nothing of it in the program: on, each of the six metrics is asked whether it is finite.
    counts = [
        sum(
            eqn.primitive.name == "is_finite"
            for eqn in equations(lambda s, r=run: train_step(r, s, (), batch), state)
        )
        for run, state in zip(runs, states, strict=True)
    ]
    assert counts[1] - counts[0] == 6

    step = jit_step(runs[1])
    poisoned = jax.tree.map(np.asarray, states[1])
    poisoned["student"]["params"]["head"]["bias"] = np.full(10, np.inf, np.float32)
    kept = jax.tree.map(np.copy, poisoned)
    after, metrics = jax.device_get(step(jax.device_put(poisoned, replicated_on(runs[1].mesh)), (), batch))
    assert (after["step"], after["skipped"], metrics["nan_count"]) == (1, 1, 1)
    for name in ("student", "method", "memory"):
        jax.tree.map(np.testing.assert_array_equal, after[name], kept[name])
    trace, schedule = after["optimizer"][1]
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(trace)) and schedule.count == 1
    good, metrics = jax.device_get(step(states[1], (), batch))
    assert metrics["nan_count"] == good["skipped"] == 0 and np.isfinite(metrics["loss"])
    plain, _ = jax.device_get(jit_step(runs[0])(states[0], (), batch))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), good["student"], plain["student"]
    )


def test_the_loop_goes_on_as_long_as_skips_are_allowed():
    logged, seen = [], []
    writer = type("Writer", (), {"write": lambda self, step, values: logged.append((step, values))})()
    watch = type("Watcher", (), {"see": lambda self, step, metrics: seen.append(step)})()

    def metrics(loss, count):
        return {"loss": np.float32(loss), "loss/ce": np.float32(loss), "nan_count": np.int32(count)}

    pending = [
        (range(1, 2), metrics(1.0, 0)),
        (range(2, 3), metrics(np.nan, 1)),
        (range(3, 4), metrics(2.0, 1)),
    ]
    assert loop._fetch_finite(pending, writer, watch, 1) == metrics(2.0, 1)
    assert (pending, logged, seen) == ([], [], [1, 3])
    with pytest.raises(TrainingStopped, match="step 4: loss/ce not finite"):
        loop._fetch_finite([(range(4, 5), metrics(np.inf, 2))], writer, watch, 1)
    assert logged == [(4, {"nan_count": 2})]


# ----------------------------------------------------------------------------------------------------
# What teaches nothing


class FakeBatches:
    steps_per_epoch = 4

    def labels(self, step):
        return np.random.default_rng(step).integers(0, 10, 16)


def watched(config, capsys, *metrics_of):
    """The notes, by line, after each of some functions step -> metrics has been seen for eight steps."""
    watch = Watch(config, 10, FakeBatches())
    for i, of in enumerate(metrics_of):
        for step in range(8 * i + 1, 8 * i + 9):
            watch.see(step, of(step))
    return capsys.readouterr().err.splitlines()


def healthy(step):
    rng = np.random.default_rng(step)
    return {"train_accuracy": 100 * rng.integers(0, 9) / 16, "loss/ce": rng.random()}


def test_constant_predictions_are_told_once(make_config, capsys):
    def constant(step):
        return {"train_accuracy": np.float32(100 * np.mean(FakeBatches().labels(step - 1) == 3))}

    config = make_config("erm")
    assert watched(config, capsys, healthy) == []
    (line,) = watched(config, capsys, healthy, constant, constant)
    assert line.startswith("note: step 16: in the last 8 steps ") and "class 3" in line
    assert "constant predictions" in line
    off = {"train_accuracy": 100.0}  # of 16 images never all are of one class
    half = lambda step: constant(step) if step % 8 else off  # noqa: E731
    assert watched(config, capsys, half, half) == []
    labels = np.array([0, 1, 1, 2])
    tell_constant(labels == 1, labels)
    assert "constant predictions: of 4 clean images just those of class 1" in capsys.readouterr().err
    for correct in (labels == 9, labels >= 1, np.array([0, 1, 0, 0], bool)):
        tell_constant(correct, labels)
    tell_constant(np.ones(4, bool), np.zeros(4, int))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_reliability_that_is_stuck_is_told(make_config, capsys, value):
    config = make_config("craft")

    def stuck(step):
        return healthy(step) | {"reliability": np.float32(abs(value - 1e-4))}

    lines = watched(config, capsys, stuck, stuck)
    assert len(lines) == 1 and f"the mean reliability was {value:.0f}" in lines[0]
    assert "reliability.alpha" in lines[0]
    (line,) = watched(make_config("craft", **{"reliability.source": "oracle"}), capsys, stuck, stuck)
    assert f"was {value:.0f}" in line and "reliability.alpha" not in line  # which it does not read
    moving = lambda step: stuck(step) | ({"reliability": 0.4} if step % 8 == 3 else {})  # noqa: E731
    assert watched(config, capsys, moving, moving) == []


@pytest.mark.parametrize("positives", ["cross_view", "same_view", "each"])
def test_embeddings_of_rank_one_are_told_by_their_loss(make_config, capsys, positives):
    config = make_config("craft", **{"contrastive.positives": positives})
    images, views = config.batch_size, config.views.count + 1

    def step_of(spread):
        def metrics(step):
            rng = np.random.default_rng(step)
            z_t, z_s = rng.normal(size=(2, images, views, 6)).astype(np.float32)
            z_s = rng.normal(size=6) + spread * z_s
            z_t, z_s = (z / np.linalg.norm(z, axis=-1, keepdims=True) for z in (z_t, z_s))
            found = losses.contrastive(jnp.asarray(z_t), jnp.asarray(z_s, jnp.float32), 0.1, positives)
            r = rng.random(images)
            term = config.contrastive.weight * np.mean(r * np.asarray(found))
            return healthy(step) | {"reliability": np.mean(r), "loss/contrastive": term}

        return metrics

    (line,) = watched(config, capsys, step_of(0), step_of(0))
    assert "embeddings have rank one" in line
    assert watched(config, capsys, step_of(0.1), step_of(0.1)) == []


@pytest.mark.parametrize("name", ["contrastive", "crd"])
def test_a_term_that_does_not_move_is_told(make_config, capsys, name):
    still = lambda step: healthy(step) | {f"loss/{name}": np.float32(2.5)}  # noqa: E731
    (line,) = watched(make_config("kd"), capsys, still, still)
    assert f"loss/{name} did not move from 2.5" in line
    moving = lambda step: healthy(step) | {f"loss/{name}": 2.5 + 1e-4 * (step % 3)}  # noqa: E731
    assert watched(make_config("kd"), capsys, moving, moving) == []
