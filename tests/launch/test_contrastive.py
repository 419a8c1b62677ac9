"""The benchmark of the contrastive loss: what it prints, and that it ends at the budget."""

import json

import pytest

from launch import bench
from launch.benchmarks import contrastive, step


@pytest.fixture
def tiny(monkeypatch):
    """Sizes of a few images, two rounds of one call."""
    for module, name, value in (
        (contrastive, "IMAGES", (4, 6)),
        (contrastive, "WIDTH", 4),
        (step, "TURN", 0.0),
        (step, "LEAST_ROUNDS", 2),
    ):
        monkeypatch.setattr(module, name, value)


def test_contrastive_measures_every_size(tiny, capsys):
    bench.main(["contrastive", "--block=3", "--seconds=0", "--json"])
    *_, first, second, last = capsys.readouterr().out.splitlines()
    facts = json.loads(last)
    assert facts["block"] == 3 and [row["anchors"] for row in facts["rows"]] == [12, 18]
    for row, line in zip(facts["rows"], (first, second), strict=True):
        whole, blocked = row["whole_temp_bytes"], row["blocked_temp_bytes"]
        assert row["memory_ratio"] == whole / blocked and whole > 0
        assert row["whole_ms"] > 0 and row["blocked_ms"] > 0 and f"| {row['time_ratio']:.2f} |" in line


def test_contrastive_ends_at_the_budget(tiny, capsys):
    bench.main(["contrastive", "--block=3", "--seconds=0", "--budget=0", "--json"])
    *_, line, last = capsys.readouterr().out.splitlines()
    (row,) = json.loads(last)["rows"]
    assert row["anchors"] == 12 and "whole_ms" not in row and line.endswith("| - | - | - |")


@pytest.mark.parametrize("block", [0, 4])
def test_contrastive_refuses_a_block_that_divides_nothing(tiny, block, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["contrastive", f"--block={block}"])
    assert stopped.value.code == 2 and f"--block={block}; allowed: 1 to 3" in capsys.readouterr().err
