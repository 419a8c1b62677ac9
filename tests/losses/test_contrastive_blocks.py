"""The contrastive loss in blocks of images: float64 loops, the loss all at once, memory, devices."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import losses
from tests.conftest import some_slow
from tests.losses.cases import POSITIVES
from tests.losses.checks import check_reference, jit, unit_rows
from tests.losses.references import ref_contrastive

ROOT = Path(__file__).resolve().parents[2]


def clean(teacher):
    """The first view's embedding for all."""
    return np.repeat(teacher[:, :1], teacher.shape[1], axis=1)


@pytest.mark.parametrize("positives", POSITIVES)
def test_blocks_reference(positives):
    """Five images in blocks of two, so that the last has one: own anchors, and clean ones with labels."""
    teacher, student = unit_rows(50, 5, 2, 3), unit_rows(51, 5, 2, 3)
    cases = (teacher, None), (clean(teacher), np.array([1, 0, 1, 2, 0]))

    def found(z):
        return jnp.concatenate([losses.contrastive(t, z, 0.2, positives, y, block=2) for t, y in cases])

    def expected(z):
        return np.concatenate([ref_contrastive(np.float64(t), z, 0.2, positives, y) for t, y in cases])

    check_reference(found, expected, student)


@pytest.mark.parametrize("positives", some_slow(POSITIVES, ["each"]))
def test_blocks_give_what_all_at_once_gives(positives):
    """Values and gradients to 1e-5, weighted as by a reliability; the block does not divide the images."""
    own, student = unit_rows(52, 37, 3, 16), unit_rows(53, 37, 3, 16)
    random = np.random.default_rng(54)
    r, classes = random.uniform(size=37).astype(np.float32), random.integers(0, 4, 37)
    teachers = np.stack([own, own, clean(own), own])
    labels = np.stack([np.arange(37), classes, classes, np.zeros(37, int)])  # all others, two masks, none

    @jit
    def found(student):
        def both(teacher, group, block):
            def loss(z):
                return losses.contrastive(teacher, z, 0.1, positives, group, block)

            values, pull = jax.vjp(loss, student)
            return values, pull(r)[0]

        return [jax.vmap(functools.partial(both, block=block))(teachers, labels) for block in (0, 8)]

    whole, blocked = found(student)
    for case in range(len(labels)):
        np.testing.assert_allclose(blocked[0][case], whole[0][case], rtol=1e-5, atol=1e-6)
        largest = np.abs(whole[1][case]).max()
        assert largest > 1e-2 or case == 3  # or this would compare zeros
        np.testing.assert_allclose(blocked[1][case], whole[1][case], rtol=0, atol=1e-5 * max(largest, 1e-3))


def test_blocks_keep_no_scores():
    """By the compiler's plan for 3,072 anchors: without the checkpoint blocks keep all scores as well."""

    def planned(block):
        def loss(teacher, student):
            labels = np.arange(1024) % 10
            return jnp.mean(losses.contrastive(teacher, student, 0.1, labels=labels, block=block))

        z = jax.ShapeDtypeStruct((1024, 3, 16), np.float32)
        program = jit(jax.value_and_grad(loss, argnums=1)).lower(z, z).compile()
        return program.memory_analysis().temp_size_in_bytes

    scores = 4 * 3072**2
    assert planned(0) > scores > 20 * planned(16)


ON_DEVICES = """
import jax, numpy as np
from craft_jax import losses
from craft_jax.mesh import make_mesh, split_over

def found(teacher, student, labels, block):
    def loss(z):
        values = losses.contrastive(teacher, z, 0.1, "each", labels, block)
        return values.sum(), values
    return jax.value_and_grad(loss, has_aux=True)(student)

z = np.random.default_rng(58).normal(size=(2, 40, 3, 8)).astype(np.float32)
arrays = *(z / np.linalg.norm(z, axis=-1, keepdims=True)), np.arange(40) % 3
assert jax.device_count() == 8
one, split = jax.device_put(arrays, jax.devices()[0]), jax.device_put(arrays, split_over(make_mesh()))
jitted = jax.jit(found, static_argnums=3, compiler_options={"xla_backend_optimization_level": 0})
(_, wanted), gradient_wanted = jitted(*one, 0)
program = jitted.lower(*split, 12).compile()
(_, values), gradient = program(*split)
np.testing.assert_allclose(values, wanted, rtol=1e-5)
np.testing.assert_allclose(gradient, gradient_wanted, rtol=0, atol=1e-5 * np.abs(gradient_wanted).max())
text = program.as_text()
assert "f32[12,3,5,3]" in text and "f32[12,3,40,3]" not in text, "a device has its share of a block's scores"
"""


def test_eight_devices_score_as_one():
    """All at once on one, in blocks on eight; a process of its own, which has its devices from its start."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    words = [sys.executable, "-c", ON_DEVICES]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
