"""Options of training: off they leave no trace, on they are what a float64 loop of the same formulas says."""

import dataclasses
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import craft_jax
from craft_jax import losses
from craft_jax.config import tree
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.mesh import make_mesh
from craft_jax.report import reproduction
from craft_jax.runs import checkpoint, start
from craft_jax.training import repeat, train
from craft_jax.training.batches import Batches
from craft_jax.training.optimizer import make_optimizer
from craft_jax.training.step import initial, make_run, train_step

ON = {
    "label_smoothing": 0.1,
    "optimizer.nesterov": True,
    "optimizer.warmup_epochs": 0.5,
    "optimizer.schedule": "drops",
    "optimizer.clip_norm": 1.0,
}
DROPS = {"optimizer.drop_epochs": (1, 2)}


def text(run, state, batch):
    return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(lambda s: train_step(run, s, (), batch))(state)))


def test_what_is_off_leaves_no_trace(make_config, digits, monkeypatch):
    """The program of a step, and the tree of its state, are those of an optimizer that has no options."""
    run = make_run(make_config("erm", **DROPS), digits, None, 12)
    schedule = optax.cosine_decay_schedule(0.1, 12)
    plain = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(schedule, 0.9))
    old = run._replace(optimizer=plain, schedule=schedule)
    batch = Batches(digits, 16, 0, make_mesh())(0)
    states = [jax.eval_shape(initial(each, digits)[0]) for each in (run, old)]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    programs = {text(run, states[0], batch)}
    with monkeypatch.context() as patch:
        hard = optax.losses.softmax_cross_entropy_with_integer_labels
        patch.setattr(losses, "cross_entropy", lambda logits, labels, smoothing: hard(logits, labels))
        assert {text(old, states[1], batch)} == programs
    for key, value in ON.items():
        on = make_run(make_config("erm", **DROPS, **{key: value}), digits, None, 12)
        programs.add(text(on, jax.eval_shape(initial(on, digits)[0]), batch))
    assert len(programs) == 1 + len(ON)


def reference(settings, gradients, w, epochs):
    """float64: (learning rates, parameters after each step) of SGD as the options' definitions have it."""
    steps, velocity, per_epoch = len(gradients), np.zeros_like(w), len(gradients) // epochs
    warmup, rates, after = settings.get("warmup_epochs", 0) * per_epoch, [], []
    for t, gradient in enumerate(gradients):
        if t < warmup:
            rate = 0.2 * t / warmup
        elif settings.get("schedule") == "drops":
            rate = 0.2 * 0.5 ** sum(t >= epoch * per_epoch for epoch in (2, 3))
        else:
            rate = 0.2 * 0.5 * (1 + np.cos(np.pi * (t - warmup) / (steps - warmup)))
        norm = np.sqrt(sum(float(x) ** 2 for x in gradient))
        clip = settings.get("clip_norm", 0)
        g = gradient * min(1.0, clip / norm) if clip else gradient
        g = g + 0.03 * w
        velocity = 0.8 * velocity + g
        w = w - rate * (g + 0.8 * velocity if settings.get("nesterov") else velocity)
        rates.append(rate)
        after.append(w)
    return rates, after


CASES = [
    {"nesterov": True},
    {"warmup_epochs": 1.5},
    {"schedule": "drops"},
    {"clip_norm": 0.7},
    {"nesterov": True, "warmup_epochs": 1.0, "schedule": "drops", "clip_norm": 0.7},
]


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_the_optimizer_is_a_float64_loop(make_config, settings):
    always = {"learning_rate": 0.2, "momentum": 0.8, "weight_decay": 0.03}
    always |= {"drop_epochs": (2, 3), "drop_factor": 0.5}
    given = {f"optimizer.{key}": value for key, value in (always | settings).items()}
    optimizer, schedule = make_optimizer(make_config(epochs=4, **given), 8)
    gradients = np.random.default_rng(0).normal(size=(8, 3)) * np.linspace(0.1, 2, 8)[:, None]
    norms = np.linalg.norm(gradients, axis=1)
    assert (norms < 0.7).any() and (norms > 0.7).any()  # some are clipped
    w = np.array([1.0, -2.0, 0.5])
    rates, after = reference(settings, gradients, w, 4)
    params = {"kernel": jnp.asarray(w[:2], jnp.float32), "bias": jnp.asarray(w[2:], jnp.float32)}
    state = optimizer.init(params)
    for t, gradient in enumerate(gradients.astype(np.float32)):
        assert float(schedule(t)) == pytest.approx(rates[t], rel=1e-5, abs=1e-8)
        updates, state = optimizer.update({"kernel": gradient[:2], "bias": gradient[2:]}, state, params)
        params = optax.apply_updates(params, updates)
        found = np.concatenate([params["kernel"], params["bias"]])
        np.testing.assert_allclose(found, after[t], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_the_cross_entropy_of_a_mixed_target(smoothing):
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(6, 5)) * 3, random.integers(0, 5, 6)
    wanted = []
    for z, y in zip(logits, labels, strict=True):
        log_p = z - np.log(np.sum(np.exp(z)))
        target = [(1 - smoothing) * (k == y) + smoothing / 5 for k in range(5)]
        wanted.append(-sum(t * p for t, p in zip(target, log_p, strict=True)))
    found = losses.cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(labels), smoothing)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


# ----------------------------------------------------------------------------------------------------
# student.checkpoint


def result_of(config, checkpoint, workdir, data):
    config = config.copy_and_resolve_references()
    config.student.checkpoint = str(checkpoint)
    return train.train_and_evaluate(config, workdir, data)


def test_training_starts_from_a_finished_run(make_config, digits, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train.train_and_evaluate(make_config("erm", epochs=1, **{"checkpoint.every_steps": 100}), first, digits)
    result = json.loads((first / "results.json").read_text())
    assert result["started_from"] is None
    again = {"student.checkpoint": str(first), "seed": 1, "checkpoint.every_steps": 100}
    config = make_config("erm", epochs=1, **again)
    begun = train.train_and_evaluate(config, second, digits)
    record = begun["started_from"]
    assert record["params_sha256"] == result["params_sha256"] != begun["params_sha256"]
    assert (record["checkpoint"], record["name"], record["step"]) == (str(first), "tiny", 4)
    assert record["other_data"] is False and json.loads((second / "start.json").read_text())["seed"] == 0

    # Its first step starts from those parameters: replayed from nothing, as the run had it.
    run = make_run(config, digits, None, 4)
    found = repeat.repeat(run, second, digits, (), 1)
    assert found.start == 0
    old = craft_jax.load(first).variables["params"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(old):
        np.testing.assert_array_equal(found.before[f"student/{checkpoint.path_of(path)}"], leaf)

    # Of images that the first run saw and this one holds out, of other networks and classes: refused.
    def refused(data=digits, **settings):
        with pytest.raises(CheckpointError) as error:
            train.train_and_evaluate(make_config("erm", **again | settings), tmp_path / "new", data)
        assert not (tmp_path / "new").exists()
        return str(error.value)

    assert "its network is tiny, the run's resnet8" in refused(**{"student.name": "resnet8"})
    assert "it has 10 classes, the data 11" in refused(dataclasses.replace(digits, num_classes=11))
    assert "allowed: the workdir of a finished run" in refused(**{"student.checkpoint": str(tmp_path)})
    held = dataclasses.replace(
        digits, validation_images=digits.test_images[:8], validation_labels=digits.test_labels[:8]
    )
    assert "the images that config.data.validation holds out" in refused(held)

    # Elsewhere it comes out the same, from a copy of what it started from.
    shutil.copytree(first, tmp_path / "moved")
    moved = result_of(config, tmp_path / "moved", tmp_path / "again", digits)
    lines, same = reproduction.compare(begun, moved)
    assert same and any(line.startswith("start's parameters:") for line in lines)
    assert not reproduction.compare(begun, moved | {"started_from": None}).same
    # Without its record it cannot be told what it started from.
    shutil.copytree(second, tmp_path / "half")
    (tmp_path / "half" / "start.json").unlink()
    (tmp_path / "half" / "results.json").unlink()
    with pytest.raises(CheckpointError, match=r"half/start.json: gone; put it back"):
        train.train_and_evaluate(config, tmp_path / "half", digits)

    # One that was trained on what is evaluated: refused, or marked; what its teacher was need not be known.
    stored = json.loads((first / "results.json").read_text())
    del stored["sha256"]
    saw = {"trained_corruptions": ["contrast"], "teacher_trained_corruptions": None}
    (first / "results.json").write_text(json.dumps(stored | saw))
    with pytest.raises(ConfigError, match=r"the start in .* was trained on contrast"):
        start.find(make_config("erm", **again), tmp_path / "new", digits)
    marked = make_config("erm", **again, **{"views.allow_overlap": True})
    assert start.find(marked, tmp_path / "new", digits)["trained_corruptions"] == ["contrast"]
    # Another student in its place is noticed before a step.
    record["params_sha256"] = "0" * 64
    (second / "start.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="was begun from another student"):
        start.put(initial(run, digits)[0](), config, second, digits)


def test_a_configuration_of_before_is_one_with_all_off(make_config):
    config = make_config("kd")
    stored = tree.to_json(config)
    for section, keys in {
        "optimizer": ("nesterov", "warmup_epochs", "schedule", "drop_epochs", "drop_factor", "clip_norm"),
        "student": ("checkpoint",),
        "teacher": ("schedule",),
    }.items():
        for key in keys:
            del stored[section][key]
    del stored["label_smoothing"]
    assert tree.differences(tree.from_json(stored), config) == []
    assert tree.flatten(tree.from_json(stored)) == tree.flatten(config)
