"""When the time that training takes is told: soon, whatever a step takes."""

import pytest

from craft_jax.training import clock


class Time:
    """Stands in for the module `time`: it moves when told."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def moved(monkeypatch):
    time = Time()
    monkeypatch.setattr(clock, "time", time)
    return time


def announced(moved, capsys, seconds, steps):
    """(the step at which it was said, what was said) of a run whose steps take so long."""
    watch = clock.Clock(0)
    for step in range(1, steps + 1):
        moved.now += seconds
        if step == 1:
            watch.compiled(step)
        watch.announce(step, steps, {"loss": 0.0})
        if said := capsys.readouterr().out:
            for later in range(step + 1, steps + 1):
                moved.now += seconds
                watch.announce(later, steps, {"loss": 0.0})
            assert capsys.readouterr().out == "", "said twice"
            return step, said
    return None, ""


@pytest.mark.parametrize(
    ("seconds", "step", "left"),
    [(60.0, 2, "1:38:00"), (6.0, 3, "0:09:42"), (1.0, 4, "0:01:36"), (0.001, 4, "0:00:00")],
)
def test_after_three_steady_steps_or_ten_seconds(moved, capsys, seconds, step, left):
    expected = f"time:    about {left} of training left, {1000 * seconds:.0f} ms a step\n"
    assert announced(moved, capsys, seconds, 100) == (step, expected)


def test_it_waits_for_the_step_that_it_times(moved, capsys, monkeypatch):
    """A dispatched step is not a computed one: here each takes twelve seconds, and none to dispatch."""

    def wait(metrics):
        moved.now += 12.0

    monkeypatch.setattr(clock.jax, "block_until_ready", wait)
    step, said = announced(moved, capsys, 0.0, 100)
    assert step == 2 and "12000 ms a step" in said


def test_a_run_of_one_or_two_steps_has_nothing_to_tell(moved, capsys):
    assert announced(moved, capsys, 60.0, 1) == announced(moved, capsys, 60.0, 2) == (None, "")
