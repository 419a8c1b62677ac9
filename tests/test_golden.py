"""Draws, images and losses are what they were: a change of any must be meant (`tests/golden.py`)."""

import numpy as np
import pytest

from craft_jax import streams
from tests import golden
from tests.conftest import CONFIGS, some_slow


@pytest.fixture(scope="module")
def kept():
    return np.load(golden.FILE)


def test_the_draws_are_those_that_results_name():
    assert golden.name_of_draws() == streams.DRAWS, "python -m tests.golden, if it is meant"


def close(found, wanted):
    """Images of other processors and versions: a level off here and there, an edge of a drop elsewhere."""
    off = np.abs(found.astype(int) - wanted)
    return found.shape == wanted.shape and (off > 1).mean() < 0.005 and (off > 0).mean() < 0.05


@pytest.mark.parametrize("severities", some_slow([(3,), (1, 2, 4, 5)], [(3,)]))
def test_evaluated_images(kept, severities):
    found = golden.evaluated(severities)
    wanted = [key for key in kept if key.startswith("evaluated/") and int(key[-1]) in severities]
    assert [f"evaluated/{key}" for key in found] == wanted
    assert [key for key, image in found.items() if not close(image, kept[f"evaluated/{key}"])] == []


@pytest.mark.parametrize("method", some_slow(CONFIGS, ("erm", "kd", "craft")))
def test_a_step_of_each_method(kept, method):
    seen, losses = golden.stepped(method)
    assert close(seen, kept[f"views/{method}"])
    wanted = {key.partition("/")[2]: kept[key] for key in kept if key.startswith(f"{method}/")}
    assert losses.keys() == wanted.keys()
    for name, value in losses.items():
        assert value == pytest.approx(float(wanted[name]), rel=2e-3, abs=1e-5), name


def test_another_draw_or_formula_fails(kept):
    """What the bounds above let through, and what not: one level everywhere is a change."""
    image = kept["evaluated/gaussian_noise 3"]
    assert close(image, image) and not close(np.clip(image.astype(int) + 1, 0, 255).astype(np.uint8), image)
    other = kept["evaluated/gaussian_noise 4"]
    assert not close(other, image)
