"""The benchmarks of a step and of the loop: what their programs compute, and what they report."""

import argparse
import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax.training.step import init_state, jit_step
from launch import bench
from launch.benchmarks import loop, setting, step, without

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tiny(monkeypatch, make_config):
    """The benchmarks on the tiny network and 64 examples, two rounds of one call."""
    for module, name, value in (
        (setting, "EXAMPLES", 64),
        (step, "TURN", 0.0),
        (step, "LEAST_ROUNDS", 2),
        (loop, "LEAST_ROUNDS", 2),
        (setting, "configuration", lambda method, preset: make_config(method)),
    ):
        monkeypatch.setattr(module, name, value)


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
def test_the_floor_of_erm_is_erm(make_config):
    """On the views of its first step, which has no other work: the same loss and the same student."""
    config = make_config("erm")
    dataset = setting.generated(images=config.batch_size)
    run = setting.run_of(config, dataset)
    fresh = jax.jit(functools.partial(init_state, run, setting.SHAPE, dataset.train_labels))
    labels = dataset.train_labels[: config.batch_size]
    images = step.views_alone(run, jnp.asarray(dataset.train_images), 0)
    batch = {"image": dataset.train_images, "label": labels, "index": np.arange(len(labels), dtype=np.int32)}
    whole, metrics = jit_step(run)(fresh(), (), batch)
    state, outputs = jax.jit(functools.partial(step.floor_step, run))(
        step.floor_state(run, fresh()), (), images, labels
    )
    np.testing.assert_allclose(outputs["loss"], metrics["loss"], rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        state["student"],
        whole["student"],
    )


@pytest.mark.slow
def test_the_floor_runs_the_teacher(make_config):
    """The compiler, which drops what nothing reads, leaves the teacher's work in."""
    config = make_config("kd")
    dataset = setting.generated(images=config.batch_size)
    run = setting.run_of(config, dataset)
    state = jax.eval_shape(functools.partial(init_state, run, setting.SHAPE, dataset.train_labels))
    state = jax.eval_shape(functools.partial(step.floor_state, run), state)
    teacher = jax.eval_shape(functools.partial(setting.teacher_variables, run))
    images = jax.ShapeDtypeStruct((config.batch_size, 1, *setting.SHAPE), np.float32)
    labels = jax.ShapeDtypeStruct((config.batch_size,), np.int32)

    def operations(function, *arguments):
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    both = operations(functools.partial(step.floor_step, run), state, teacher, images, labels)
    without = run._replace(teacher=None)
    student = operations(functools.partial(step.floor_step, without), state, (), images, labels)
    alone = operations(functools.partial(step.teacher_alone, run), teacher, images)
    assert both - student == pytest.approx(alone, rel=0.05) and alone > 0.2 * student


def test_compiling_is_timed_in_earnest_and_the_cache_stays(tmp_path):
    """Neither read from the cache on the disk nor written there; what is compiled afterwards is."""
    program = """
import jax, os
from launch.benchmarks import setting
def files(): return len(os.listdir(os.environ["JAX_COMPILATION_CACHE_DIR"]))
def lower(x): return jax.jit(lambda v: v * x + 1).lower(jax.ShapeDtypeStruct((3,), "float32"))
lower(2.0).compile(); one = files()
setting.compiled(lower(3.0)); two = files()
lower(4.0).compile(); print(one > 0, two == one, files() > two)
"""
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    env |= {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True
    )
    assert ended.stdout.split() == ["True"] * 3


def test_step_reports_medians_the_median_ratio_and_the_rest(make_config, capsys):
    turns = {
        "step": [0.2, 0.3, 0.9],
        "floor": [0.1, 0.2, 0.9],
        "views": [0.03] * 3,
        "student": [0.15] * 3,
        "teacher": [0.06] * 3,
    }
    compiled = {"compile_s": 2.5, "peak_bytes": 3 * 2**20}
    arguments = argparse.Namespace(method="kd", preset="smoke", without=[], json=True)
    step.report(arguments, make_config("kd"), turns, compiled)
    text = capsys.readouterr().out
    facts = json.loads(text.splitlines()[-1])
    assert "without" not in text
    assert facts["ratio"] == pytest.approx(1.5)  # of 2, 1.5 and 1
    assert facts["step_ms"] == pytest.approx(300) and facts["floor_ms"] == pytest.approx(200)
    assert facts["images_per_s"] == pytest.approx(16 / 0.3)
    assert facts["compile_s"] == 2.5 and facts["peak_bytes"] == 3 * 2**20
    assert "views 10%, student 50%, teacher 20%, losses 20%" in text

    arguments.without = ["vector"]
    step.report(arguments, make_config("kd"), turns | {"without": [0.4, 0.3, 0.9]}, compiled)
    text = capsys.readouterr().out
    facts = json.loads(text.splitlines()[-1])
    assert facts["without"] == ["vector"] and facts["without_ratio"] == pytest.approx(1)  # of 2, 1 and 1
    assert "without  vector: 400.0 ms, 1.000 times as long" in text
    assert "views 10%, student 50%, teacher 20%, losses 20%" in text


@pytest.mark.slow
def test_a_step_without_a_change_computes_the_same(make_config):
    """Every change is to the program alone; each that is not for a GPU only does change it."""
    config = make_config("kd")
    dataset = setting.generated(images=config.batch_size)
    batch = {
        "image": dataset.train_images,
        "label": dataset.train_labels[: config.batch_size],
        "index": np.arange(config.batch_size, dtype=np.int32),
    }

    def stepped(*names):
        with without.taken_back(names):
            run = setting.run_of(config, dataset)
            state = jax.jit(functools.partial(init_state, run, setting.SHAPE, dataset.train_labels))()
            teacher = jax.jit(functools.partial(setting.teacher_variables, run))()
            lowered = jit_step(run).lower(state, teacher, batch)
            return lowered.as_text(), lowered.compile()(state, teacher, batch)

    text, (state, metrics) = stepped()
    for name in without.CHANGES:
        other, (other_state, other_metrics) = stepped(name)
        assert (other != text) == (name != "kernels"), name
        for one, two in ((metrics, other_metrics), (state["student"], other_state["student"])):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), one, two)


@pytest.mark.slow
def test_step_runs(tiny, capsys):
    bench.main(["step", "--method=kd", "--preset=smoke", "--seconds=0", "--json"])
    facts = last_line(capsys)
    keys = ["method", "preset", "device", "step_ms", "floor_ms", "ratio"]
    assert list(facts) == [*keys, "images_per_s", "compile_s", "peak_bytes"]
    assert all(facts[key] > 0 for key in list(facts)[3:])


def test_loop_runs_and_logs_as_a_run_does(tiny, capsys, monkeypatch):
    logged = []
    write = loop.loop.MetricWriter.write
    monkeypatch.setattr(
        loop.loop.MetricWriter,
        "write",
        lambda self, done, values: (logged.append(done), write(self, done, values)),
    )
    bench.main(["loop", "--method=erm", "--preset=smoke", "--seconds=0", "--json"])
    facts = last_line(capsys)
    assert list(facts) == ["method", "preset", "device", "loop_ms", "bare_ms", "ratio"]
    assert all(facts[key] > 0 for key in ("loop_ms", "bare_ms", "ratio"))
    assert logged == 3 * [1, 2]  # log.every_steps is 1, a turn 1 step after the first; one turn warms up


def test_loop_reports_the_median_ratio(capsys):
    loop.report("erm", "", {"loop": [0.3, 0.2, 0.9], "bare": [0.1, 0.2, 0.6]}, 5, as_json=True)
    facts = last_line(capsys)
    assert facts["ratio"] == pytest.approx(1.5)  # of 3, 1 and 1.5
    assert facts["loop_ms"] == pytest.approx(300) and facts["bare_ms"] == pytest.approx(200)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nosuch"], "nosuch"),
        (["step", "--method=nosuch"], "nosuch"),
        (["step", "--preset=nosuch"], "--preset: unknown preset 'nosuch'"),
        (["loop", "--seconds=soon"], "--seconds"),
    ],
)
def test_bad_arguments_are_named(arguments, named, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(arguments)
    assert stopped.value.code == 2 and named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--devices=3"], "--devices=3; allowed"),
        (["--steps=0"], "--steps=0; allowed"),
        pytest.param(
            ["--json"],
            'pip install -r requirements.txt "jax[cuda12]"',
            marks=pytest.mark.skipif(
                importlib.util.find_spec("jax_plugins") is not None, reason="it would compile"
            ),
        ),
    ],
)
def test_gpu_refuses_in_one_message(options, named):
    """In a process of its own: it sets the environment that JAX reads."""
    command = [sys.executable, str(ROOT / "launch" / "bench.py"), "gpu", *options]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ.copy(), check=False)
    assert ended.returncode == 2 and named in ended.stderr and "Traceback" not in ended.stderr
