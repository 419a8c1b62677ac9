"""The canary: it passes here, and stops a run where a sum is wrong or jaxlib is known to be."""

import jax
import jaxlib
import numpy as np
import pytest

from craft_jax import main
from craft_jax.errors import CraftError, NumericsError
from craft_jax.runs import canary


def test_sums_are_right_here():
    canary.check()
    assert canary._squares(np.float32([[3, 0, 0], [32768, 0, 0]])).tolist() == [9.0, 1073741824.0]


def test_the_numpy_layer_is_the_derivative_of_itself():
    """Its gradients against central differences in float64: no canary that agrees with a wrong formula."""
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=shape) for shape in ((3, 3, 3, 2), (2, 5, 5, 3), (2, 3, 3, 2))]
    _, *gradients = canary._layer_in_numpy(*inputs)
    for which, gradient in enumerate(gradients):
        for place in [(0, 0, 0, 0), (1, 2, 1, 1), (1, 1, 2, 0)]:
            values = []
            for sign in (1, -1):
                moved = [x.copy() for x in inputs]
                moved[which][place] += sign * 1e-5
                values.append(np.sum(inputs[2] * canary._layer_in_numpy(*moved)[0]))
            assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("version", ["0.10.2", "0.11.0"])
def test_a_jaxlib_known_to_be_wrong_is_refused_on_a_cpu_alone(version, monkeypatch):
    monkeypatch.setattr(jaxlib, "__version__", version)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    with pytest.raises(NumericsError, match=rf"jaxlib {version} is known .*; install another: .*jaxlib=="):
        canary.check()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    canary.check()  # a GPU does not use what is wrong there


def the_last_row_lost(rows):
    """What jaxlib 0.10.2 makes of the last row."""
    return np.append(np.sum(rows[:-1] ** 2, axis=1), np.float32(1065369600))


def one_small_sum_off(rows):
    sums = np.sum(rows**2, axis=1)
    sums[7] += 0.01
    return sums


@pytest.mark.parametrize("wrong", [the_last_row_lost, one_small_sum_off])
def test_a_wrong_sum_of_squares_is_seen(wrong, monkeypatch):
    monkeypatch.setattr(canary, "_squares", wrong)
    with pytest.raises(NumericsError, match="wrong sums of squares on this cpu"):
        canary.check()


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("wrong", [lambda x: x + 1e-2, lambda x: x * np.nan, lambda x: x * (1 + 1e-3)])
def test_a_wrong_layer_or_gradient_is_seen(part, wrong, monkeypatch):
    right = canary._layer_gradients

    def gradients(*inputs):
        (value, normalised), found = right(*inputs)
        parts = [np.asarray(x) for x in (normalised, *found)]
        parts[part] = wrong(parts[part])
        return (value, parts[0]), tuple(parts[1:])

    monkeypatch.setattr(canary, "_layer_gradients", gradients)
    with pytest.raises(NumericsError, match=("normalised", "kernel", "images")[part]):
        canary.check()


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_command_stops_with_status_2_before_any_work(mode, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(canary, "_squares", the_last_row_lost)
    workdir = tmp_path / "run"
    words = ["--config=configs/erm.py:smoke", f"--workdir={workdir}", f"--mode={mode}"]
    assert main.main(words) == 2
    assert not workdir.exists()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("craft_jax: jaxlib ") and "install another" in printed.err
    assert issubclass(NumericsError, CraftError)
