"""Several steps in one dispatch, as on a GPU: the same run, told step by step."""

import json

import numpy as np
import pytest

from craft_jax.training import loop, train

METRICS = ("loss", "gradient_norm", "parameter_norm", "learning_rate", "train_accuracy")


def test_dispatches_end_where_something_is_due():
    def cut(start, steps, together, *periods):
        return list(loop.spans(start, steps, together, periods))

    assert cut(0, 3, 1, 2) == [(0, 1), (1, 2), (2, 3)]
    assert cut(0, 8, 4, 4, 0) == [(0, 4), (4, 8)]
    assert cut(0, 9, 4) == [(0, 4), (4, 8), (8, 9)]
    # Something is due after 6: of 4..8 each step is alone.
    assert cut(0, 12, 4, 6) == [(0, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 12)]
    assert cut(0, 6, 4, 3) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]
    # A run that was saved after any of them goes on by the same ones.
    whole = cut(0, 40, 5, 15, 7)
    for i, (before, _) in enumerate(whole):
        assert cut(before, 40, 5, 15, 7) == whole[i:]


@pytest.mark.slow
def test_several_steps_a_dispatch_are_the_single_ones(make_config, digits, tmp_path, monkeypatch):
    settings = {"checkpoint.every_steps": 5, "log.every_steps": 4, "optimizer.learning_rate": 0.01}
    lines = {}
    for together in (1, 2):
        monkeypatch.setitem(loop._TOGETHER, "cpu", together)
        directory = tmp_path / str(together)
        train.train_and_evaluate(make_config("crd", **settings), directory, digits)  # 12 steps
        logged = (directory / "metrics.jsonl").read_text().splitlines()
        lines[together] = [json.loads(line) for line in logged]
    assert [line["step"] for line in lines[2]] == [line["step"] for line in lines[1]] == [4, 8, 12]
    for one, other in zip(lines[1], lines[2], strict=True):
        for name in METRICS:
            np.testing.assert_allclose(other[name], one[name], rtol=2e-4, err_msg=f"{name} {one['step']}")
    assert lines[1][0]["loss"] != lines[1][1]["loss"]


def test_the_step_that_is_not_finite_is_told(make_config, digits, tmp_path, monkeypatch):
    config = make_config("erm", epochs=4, **{"optimizer.learning_rate": 1e18, "log.every_steps": 16})
    stopped = {}
    for together in (1, 4):
        monkeypatch.setitem(loop._TOGETHER, "cpu", together)
        with pytest.raises(loop.TrainingStopped) as stop:
            train.train_and_evaluate(config, tmp_path / str(together), digits)
        stopped[together] = stop.value.facts["stopped_at_step"]
    assert stopped[1] == stopped[4]
    assert 1 < stopped[4] < 4, "or the first or last of a dispatch would be told all the same"
