"""The optimizer against a float64 loop of SGD's formulas. Its options: test_options.py."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from craft_jax.training.optimizer import make_optimizer


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
