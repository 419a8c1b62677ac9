"""The step on a network and data small enough to train for real: its gradient, its state, its metrics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from craft_jax import mesh, models, streams, views
from craft_jax.training import batches
from craft_jax.training.step import begin, histogram, init_state, initial, jit_step, make_run, train_step


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
