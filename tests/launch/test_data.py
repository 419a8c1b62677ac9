"""The benchmark of streaming: what it counts as waiting, and what it trains on."""

from types import SimpleNamespace

import numpy as np
import pytest

from configs import erm
from craft_jax import data as sets
from launch.benchmarks import data


@pytest.mark.parametrize("streams", [False, True])
def test_a_step_waits_until_its_batch_is_there(monkeypatch, streams):
    """Of a batch that takes a second and a step that takes three; what was ready before does not count."""
    clock, asked = [0.0], []
    monkeypatch.setattr(data, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Source:
        def __call__(self, step):
            asked.append(step)
            clock[0] += 1
            return np.zeros(2)

    def task(batch):
        clock[0] += 3
        return batch

    source, config = Source(), erm.get_config("smoke")
    source.streams, config.data.workers = streams, 1
    turn = data.Turn(source, config)
    assert turn.take(4, task) == (4.0, 0.25)
    assert turn.take(2, None) == (1.0, 1.0)
    assert asked == list(range(6 + 2 * 6 * streams))  # two on the device, four with the one process


def test_its_pictures_are_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data.draw(tmp_path / "set", pictures=20, side=24)
    config = erm.get_config("smoke")
    config.data.name, config.data.dir, config.data.size = "folder", str(tmp_path / "set"), 16
    loaded = sets.load(config)
    assert loaded.train_images.shape == (20, 16, 16, 3) and len(loaded.test_images) == 10
    assert np.bincount(loaded.train_labels).tolist() == [2] * 10
    assert loaded.train_images.std() > 20
