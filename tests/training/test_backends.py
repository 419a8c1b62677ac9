"""Runs on another backend than the CPU: what a plug-in lacks, what fails, what a GPU would round."""

import jax
import jax.numpy as jnp
import pytest

from craft_jax import files, models
from craft_jax.evaluation import cost
from craft_jax.runs import results
from craft_jax.training import gradients, train
from craft_jax.training.step import init_state, make_run, train_step
from tests.conftest import CONFIGS
from tests.programs import equations, precisions


def on_disk(workdir):
    return files.read_json(workdir / "results.json")


# ---- a plug-in backend, as CUDA is ----


@pytest.fixture
def plugin(monkeypatch):
    """JAX as on a plug-in backend: no cost of a lowered program, and what else may be missing there.

    `Lowered.cost_analysis` is None on every one of them; the analyses of a compiled program may be.
    """
    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", lambda self: None)
    monkeypatch.setattr(jax.stages.Compiled, "cost_analysis", lambda self: None)
    monkeypatch.setattr(jax.stages.Compiled, "memory_analysis", lambda self: None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def test_kd_from_nothing_to_its_result_on_a_plugin(plugin, make_config, digits, tmp_path):
    assert jax.jit(jnp.sin).lower(1.0).cost_analysis() is None
    config = make_config("kd", epochs=1)
    train.train_and_evaluate(config, tmp_path / "kd", digits)
    (teacher,) = (path for path in (tmp_path / "teachers").iterdir() if path.is_dir())
    for workdir in (tmp_path / "kd", teacher):
        result = on_disk(workdir)
        assert result["status"] == "done" and result["notes"] == []
        assert 0 <= result["clean_accuracy"] <= 100 and 0 <= result["robust_accuracy"] <= 100
        assert result["cost"]["flops"] > 0 and result["cost"]["latency_ms"]["128"] > 0
        assert "TF32" in result["arithmetic"]
    assert on_disk(tmp_path / "kd")["teacher"]["params_sha256"] == on_disk(teacher)["params_sha256"]


@pytest.mark.parametrize(
    ("backend", "dtype", "precision", "said"),
    [
        ("cpu", "float32", "default", "float32"),
        ("gpu", "float32", "highest", "float32"),
        ("gpu", "bfloat16", "default", "bfloat16"),
    ],
)
def test_results_say_what_was_computed_in(backend, dtype, precision, said, make_config, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert results.arithmetic(make_config(dtype=dtype, precision=precision)) == said


# ---- a measurement that fails, or is killed, costs no result ----


def test_a_cost_that_cannot_be_measured_is_null_with_a_note(
    make_config, digits, tmp_path, monkeypatch, capsys
):
    def out_of_memory(*_):
        # The accuracies are there already.
        before = on_disk(tmp_path)
        assert before["status"] == "done" and before["clean_accuracy"] is not None
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(cost, "measure", out_of_memory)
    result = train.train_and_evaluate(make_config("erm", epochs=1), tmp_path, digits)
    assert result == on_disk(tmp_path)
    assert result["status"] == "done" and result["cost"] is None
    (note,) = result["notes"]
    assert note.startswith("cost is not measured: ") and "RESOURCE_EXHAUSTED: out of memory" in note
    assert f"note: {note}\n" in capsys.readouterr().err


def test_a_run_killed_while_its_latency_is_measured_is_done(
    make_config, digits, tmp_path, monkeypatch, capsys
):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    config = make_config("erm", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(cost, "_median_ms", kill)
        with pytest.raises(Killed):
            train.train_and_evaluate(config, tmp_path, digits)
    left = on_disk(tmp_path)
    assert left["status"] == "done" and left["cost"] is None
    assert left["notes"] == ["cost is not measured: the run was stopped before"]
    again = train.train_and_evaluate(config, tmp_path, digits)
    assert "already done" in capsys.readouterr().out
    assert again == left


# ---- what a GPU would round to TF32 ----


@pytest.mark.parametrize("precision", models.PRECISIONS)
@pytest.mark.parametrize("method", CONFIGS)
def test_every_product_of_a_step_is_in_full_float32(method, precision, make_config, digits, monkeypatch):
    """Of losses, embeddings, heads and their gradients; convolutions follow config.precision."""
    settings = {"precision": precision, "views.count": 2}
    config = make_config(method, **settings)
    # The views' own products are elsewhere; what is left are both networks, the losses and their gradients.
    images = jnp.zeros((16, 3, 16, 16, 3))
    monkeypatch.setattr(gradients.views, "make", lambda *a: images[:, : a[3]])
    run = make_run(config, digits, None, 12)
    run = run._replace(teacher=run.student)
    state = jax.eval_shape(lambda: init_state(run, (16, 16, 3), digits.train_labels))
    batch = {"image": images[:, 0], "label": jnp.zeros(16, jnp.int32), "index": jnp.arange(16)}
    found = equations(lambda s, t, b: train_step(run, s, t, b), state, state["student"], batch)
    wanted = precision.upper()
    assert precisions(found, "conv_general_dilated") == {(wanted, wanted)}
    assert precisions(found, "dot_general") == {("HIGHEST", "HIGHEST")}
