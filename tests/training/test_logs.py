"""Metrics on disk: JSON lines that survive a crash, and TensorBoard events that its own reader reads."""

import json
import resource

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from craft_jax.errors import CheckpointError
from craft_jax.training.logs import MetricWriter, lacks, write_outcome
from tests.conftest import small_config


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events(workdir):
    """Every event in DIR/tensorboard: records are length, checksum, content, checksum."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            size = int.from_bytes(content[:8], "little")
            found.append(Event.FromString(content[12 : 12 + size]))
            content = content[16 + size :]
    return found


@pytest.mark.parametrize(("tensorboard", "named"), [(False, "metrics.jsonl"), (True, "tensorboard")])
def test_a_full_disk_is_named_and_nobody_waits(tmp_path, tensorboard, named):
    """tensorboardX's own writer would wait for ever, once its thread has died of that."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = MetricWriter(tmp_path, 0, tensorboard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # pytest's own files are below it
    try:
        with pytest.raises(CheckpointError, match=rf"/{named}: cannot be written \(File too large\)"):
            for step in range(30):  # events are three times as large as lines
                writer.write(step, {"histogram": np.zeros(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    writer.close()


def test_a_line_a_step(tmp_path):
    writer = MetricWriter(tmp_path, 0, tensorboard=False)
    writer.write(5, {"loss": np.float32(0.5), "histogram": np.float32([1, 2])})
    writer.write(10, {"loss": 0.25})
    writer.close()
    assert lines(tmp_path) == [
        {"step": 5, "loss": 0.5, "histogram": [1.0, 2.0]},
        {"step": 10, "loss": 0.25},
    ]
    assert not (tmp_path / "tensorboard").exists()


def test_a_resume_drops_what_came_after_and_a_line_cut_short(tmp_path):
    writer = MetricWriter(tmp_path, 0, tensorboard=False)
    for step in (5, 10, 15):
        writer.write(step, {"loss": 1.0})
    writer.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 20, "lo')
    writer = MetricWriter(tmp_path, 10, tensorboard=False)
    writer.write(15, {"loss": 2.0})
    writer.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(5, 1.0), (10, 1.0), (15, 2.0)]


def test_a_resume_drops_what_a_disk_made_no_line_of(tmp_path):
    good = b'{"step": 5, "loss": 1.0}'
    harmed = [b'{"step": 6, "lo\xf3s": 1.0}', b'{"s4ep": 7}', b'{"ste\xf0": 9}', b"3", b"\xff{"]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([good, *harmed, good.replace(b"5", b"10"), b""]))
    MetricWriter(tmp_path, 20, tensorboard=False).close()
    assert [line["step"] for line in lines(tmp_path)] == [5, 6, 10]


def test_what_a_step_owes_is_added_to_its_line(tmp_path):
    with MetricWriter(tmp_path, 0, tensorboard=False) as writer:
        writer.write(5, {"loss": 1.0, "clean_accuracy": 50.0})
        writer.write(10, {"loss": 0.5})
    asked = [lacks(tmp_path, step, "clean_accuracy") for step in (5, 10, 15)]
    assert asked == [False, True, True]
    MetricWriter(tmp_path, 10, True, {"clean_accuracy": 60.0}).close()
    assert lines(tmp_path)[1] == {"step": 10, "loss": 0.5, "clean_accuracy": 60.0}
    (value,) = (value for event in events(tmp_path) for value in event.summary.value)
    assert (value.tag, value.simple_value) == ("clean_accuracy", 60.0)
    MetricWriter(tmp_path, 15, False, {"clean_accuracy": 70.0}).close()  # nothing else was due there
    assert lines(tmp_path)[2:] == [{"step": 15, "clean_accuracy": 70.0}]


def test_events_hold_scalars_and_histograms(tmp_path):
    writer = MetricWriter(tmp_path, 0, tensorboard=True)
    writer.write(7, {"loss/ce": np.float32(0.5), "reliability_histogram": np.float32([3, 0, 0, 1])})
    writer.close()
    values = {v.tag: (e.step, v) for e in events(tmp_path) for v in e.summary.value}
    step, scalar = values["loss/ce"]
    assert (step, scalar.simple_value) == (7, 0.5)
    histogram = values["reliability_histogram"][1].histo
    assert list(histogram.bucket) == [3, 0, 0, 1]
    assert list(histogram.bucket_limit) == [0.25, 0.5, 0.75, 1.0]
    assert histogram.num == 4
    assert histogram.sum == 3 * 0.125 + 0.875


def test_the_outcome_is_in_the_events_with_the_hyperparameters(tmp_path):
    families = {"noise": 70.0, "blur": None}
    result = {"clean_accuracy": 90.0, "robust_accuracy": 65.5, "families": families, "step": 12}
    write_outcome(tmp_path, small_config("craft"), result)
    values = [(event.step, value) for event in events(tmp_path) for value in event.summary.value]
    scalars = {v.tag: (step, v.simple_value) for step, v in values if not v.tag.startswith("_hparams_")}
    assert scalars == {"clean/final": (12, 90.0), "robust/all": (12, 65.5), "robust/noise": (12, 70.0)}
    hparams = {v.tag: v.metadata.plugin_data for _, v in values if v.tag.startswith("_hparams_")}
    assert {data.plugin_name for data in hparams.values()} == {"hparams"}
    begun = hparams["_hparams_/session_start_info"].content
    assert b"dealign.weight" in begun and b"contrastive.temperature" in begun and b"data.dir" not in begun
    assert b"robust/noise" in hparams["_hparams_/experiment"].content
