"""Images that stay in their files: the batches, and the run, of the same images in memory."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from craft_jax import data, main, mesh
from craft_jax.errors import DataError, Interrupted
from craft_jax.mesh import make_mesh
from craft_jax.runs import checkpoint
from craft_jax.training import batches, interrupt, streaming, train
from tests.training import test_processes as processes

pytest.importorskip("grain", reason="requirements-streaming.txt is not installed")

ROOT = Path(__file__).resolve().parents[2]
address = processes.address


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 72 + 20 pictures of 20 by 24 pixels, in three classes."""
    root, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part, count in (("train", 72), ("test", 20)):
        for i in range(count):
            place = root / part / "abc"[i % 3]
            place.mkdir(parents=True, exist_ok=True)
            picture = random.integers(0, 256, (20, 24, 3)).astype(np.uint8)
            Image.fromarray(picture).save(place / f"{i:02}.jpg")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def make(pictures, make_config):
    """A function that makes the configuration of a run on the pictures."""

    def make(streaming, **more):
        settings = {"data.name": "folder", "data.dir": str(pictures), "data.size": 16}
        settings |= {"data.streaming": streaming, "data.workers": 0, "data.flip": True, "epochs": 2}
        return make_config("erm", **settings | more)

    return make


def assert_same(one, other):
    for name, leaf in one.items():
        assert leaf.dtype == other[name].dtype and leaf.sharding == other[name].sharding
        np.testing.assert_array_equal(leaf, other[name])


def both(make, **more):
    """Batches of 16 images in memory, and of the same in their files."""
    return [
        batches.Batches(data.load(make(streaming, **more)), 16, 3, make_mesh())
        for streaming in ("never", "always")
    ]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_batches_are_those_of_the_images_in_memory(make, workers):
    resident, streamed = both(make)
    assert resident.resident and not resident.streams and streamed.streams and not streamed.resident
    assert streamed.steps_per_epoch == 4
    with streamed.ahead(2, 12, workers):  # from within an epoch on, over two others
        for step in range(2, 6):
            assert_same(resident(step), streamed(step))
        assert_same(resident.several(6, 9), streamed.several(6, 9))
        assert_same(resident(0), streamed(0))  # out of turn
        assert_same(resident(9), streamed(9))
        np.testing.assert_array_equal(resident.labels(9), streamed.labels(9))
        assert len(multiprocessing.active_children()) == streaming.count_of(workers)
    assert not multiprocessing.active_children()
    assert_same(resident(11), streamed(11))  # as a replay asks, step by step
    assert_same(resident.several(3, 5), streamed.several(3, 5))


def lines(place):
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


@pytest.mark.slow
def test_a_run_and_its_resume_within_an_epoch_are_those_of_the_images_in_memory(
    make, tmp_path, monkeypatch, capsys
):
    """An epoch has 4 steps, and the run leaves after 6. Nothing but the step says where it was."""
    whole = train.train_and_evaluate(make("never"), tmp_path / "whole")
    assert "decoded as they are met" not in capsys.readouterr().out
    config = make("always", **{"data.memory_gb": 1e-6, "checkpoint.every_steps": 1000})
    with monkeypatch.context() as patch:
        patch.setattr(interrupt, "_asked", threading.Event())
        original = batches.Batches.__call__

        def call(self, step):
            assert step == self._stream.step  # read ahead, and not here
            if step == 5:
                interrupt._asked.set()
            return original(self, step)

        patch.setattr(batches.Batches, "__call__", call)
        with pytest.raises(Interrupted, match="from step 6, which is saved"):
            train.train_and_evaluate(config, tmp_path / "cut")
    assert "72 training images, 20 for test; decoded as they are met" in capsys.readouterr().out
    assert checkpoint.restore_student(tmp_path / "cut")[1] == 6
    resumed = train.train_and_evaluate(config, tmp_path / "cut")
    assert resumed["resumed_from"] == [6]
    for key in ("params_sha256", "data", "clean_accuracy", "corruptions", "calibration_bins"):
        assert resumed[key] == whole[key], key
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_a_picture_that_goes_bad_ends_the_run_with_its_name(make, pictures, tmp_path, capsys, monkeypatch):
    """It was whole when the set was looked through; the run had done a few steps."""
    root = tmp_path / "pictures"
    for path in pictures.rglob("*.jpg"):
        (root / path.relative_to(pictures)).parent.mkdir(parents=True, exist_ok=True)
        os.link(path, root / path.relative_to(pictures))
    config = make("always", **{"data.dir": str(root), "eval.clean_every_epochs": 0})
    dataset = data.load(config)
    order = batches.Order(config.seed, 72, 16)
    late = int(order.rows(5)[3])
    path = sorted(root.glob("train/*/*.jpg"))[late]
    path.unlink()
    path.write_bytes(b"\xff\xd8 no picture")
    monkeypatch.setattr(data, "load", lambda _: dataset)
    monkeypatch.setattr(main.command, "parse", lambda _: options(config, tmp_path / "run"))
    monkeypatch.setattr(main.compilation_cache, "use", lambda: None)
    assert main.main([]) == 2
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("craft_jax: ")]
    assert told.startswith(f"craft_jax: {path}: cannot be read as a picture (")
    first = next(s for s in range(12) if late in order.rows(s))
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(1, first + 1))


def options(config, workdir):
    return SimpleNamespace(config=config, workdir=str(workdir), mode="train", recorded=None)


@pytest.mark.slow
def test_a_picture_that_goes_bad_in_another_process_is_told_alike(make, pictures, tmp_path):
    streamed = both(make)[1]
    streamed._images = streamed._images.through(lambda reader: Bad(reader))
    with (
        streamed.ahead(0, 12, 2),
        pytest.raises(DataError, match=r"^mars\.jpg: cannot be read as a picture"),
    ):
        for step in range(12):
            streamed(step)
    assert not multiprocessing.active_children()


class Bad:
    """A reader of which one picture is bad."""

    def __init__(self, reader):
        self.key, self.shape, self._reader = "bad", reader.shape, reader

    def read(self, numbers):
        if 60 in numbers:
            raise DataError("mars.jpg: cannot be read as a picture (truncated)")
        return self._reader.read(numbers)


@pytest.mark.slow
def test_a_process_that_dies_is_told(make):
    streamed = both(make)[1]
    with (
        streamed.ahead(0, 12_000, 2),
        pytest.raises(DataError, match=r"died .*exit code -9.*memory_?") as told,
    ):
        for step in range(12_000):
            streamed(step)
            if step == 3:
                os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    assert "\n" not in str(told.value) and not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_run(make, pictures, tmp_path, number):
    """SIGTERM goes to the whole group, as SLURM sends it: the processes leave it to the run, which saves."""
    words = ["--config=tests/training/several.py:erm", f"--workdir={tmp_path / 'run'}"]
    words += ["--config.data.name=folder", f"--config.data.dir={pictures}", "--config.data.max_train=0"]
    words += ["--config.data.streaming=always", "--config.data.workers=2", "--config.epochs=1000"]
    run = subprocess.Popen(
        [sys.executable, "-m", "craft_jax.main", *words],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        processes.wait_for_step(tmp_path, 9, run)
        workers = [child for child in children_of(run.pid) if is_worker(child)]
        assert len(workers) == streaming.count_of(2)
        if number == signal.SIGTERM:
            os.killpg(run.pid, number)
        else:
            run.kill()
        said = run.communicate(timeout=200)
    finally:
        run.kill()
    assert run.returncode == (75 if number == signal.SIGTERM else -9), said
    if number == signal.SIGTERM:
        (told,) = [line for line in said[1].splitlines() if line and not line.startswith("note: ")]
        assert "which is saved" in told, said[1]
    until = time.monotonic() + 30
    while any(is_worker(child) for child in workers):
        assert time.monotonic() < until
        time.sleep(0.1)


def children_of(pid):
    """The processes that a process's threads started."""
    return [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def is_worker(pid):
    try:
        return "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()  # empty of one that is gone
    except OSError:
        return False


def test_a_process_reads_the_rows_of_its_own_devices():
    """Of 8 rows on four devices two are here, not side by side."""
    held = {"a": (slice(6, 8),), "b": (slice(2, 4),)}
    here = SimpleNamespace(addressable_devices_indices_map=lambda shape: held)
    assert mesh.share_of(8, here).tolist() == [2, 3, 6, 7]


SHARED = """
import jax, numpy as np
from unittest import mock
from craft_jax import data, mesh
from craft_jax.data import encoded
from craft_jax.training import batches
config.data.name, config.data.dir, config.data.size = "folder", sys.argv[3], 16
def made(streaming):
    config.data.streaming = streaming
    return batches.Batches(data.load(config), 16, 3, mesh.make_mesh(), resident_bytes=0)
one, other = made("never"), made("always")
original, read = encoded.Encoded.read, []
def noted(self, rows):
    read.append(rows)
    return original(self, rows)
mock.patch.object(encoded.Encoded, "read", noted).start()
with other.ahead(1, 6, 0):
    for step in range(1, 6):
        a, b = one(step), other(step)
        for name in a:
            assert a[name].sharding == b[name].sharding and a[name].shape == b[name].shape
            for x, y in zip(a[name].addressable_shards, b[name].addressable_shards, strict=True):
                np.testing.assert_array_equal(x.data, y.data)
        assert (read[step - 1] == other._order.rows(step)[8 * me : 8 * me + 8]).all()
assert processes.any_of(True)
print("heard the end", len(read))
"""


@pytest.mark.slow
def test_two_processes_read_a_half_of_each_batch(address, pictures):
    first, second = processes.pair(address, SHARED, str(pictures))
    assert first == (0, "heard of 0\nheard the end 5\n", "note: heard of 0\n"), first
    assert second == (0, "", ""), second
