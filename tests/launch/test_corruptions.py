"""The benchmark and the check of the corruptions run, and what they print can be read."""

import importlib.util
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from launch.benchmarks import corruptions as benchmark
from tests.corruptions.test_helpers import photographs


def script(name):
    path = Path(__file__).parents[2] / "launch" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(benchmark, "SECONDS", 0.001)
    monkeypatch.setattr(benchmark, "ROUNDS", 2)
    return script("bench")


@pytest.fixture
def check(monkeypatch):
    module = script("check_corruptions")
    monkeypatch.setattr(module.tfds, "load", lambda *_: SimpleNamespace(test_images=photographs()))
    return module


def rows(text, name):
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {name} ")]


def test_bench_prints_and_writes_the_same_figures(bench, tmp_path, capsys):
    out = tmp_path / "bench.json"
    bench.main(["corruptions", "--names=contrast,pixelate", "--batch=24", "--severity=all", f"--out={out}"])
    text, facts = capsys.readouterr().out, json.loads(out.read_text())
    assert [row["name"] for row in facts["corruptions"]] == ["contrast", "pixelate"]
    ratios = []
    for row in facts["corruptions"]:
        ((_, library, slow, fast, ratio),) = rows(text, row["name"])
        assert library == row["library"] and library in ("NumPy", "Pillow")
        assert [f"{row['reference']:,.0f}", f"{row['jax']:,.0f}"] == [slow, fast]
        ratios.append(row["jax"] / row["reference"])
        assert ratio == f"{ratios[-1]:.1f}"
    assert facts["geometric_mean"] == pytest.approx(math.sqrt(ratios[0] * ratios[1]))
    assert f"Geometric mean {facts['geometric_mean']:.1f}; faster on" in text
    assert re.search(r"\d+ cores, JAX \d.*, \d{4}-\d\d-\d\d; severity all, batches of 24", text)


def test_bench_takes_the_faster_reference(bench, monkeypatch):
    """Two programs, one that waits: the other is the one to beat."""
    slow = benchmark.REFERENCES["contrast"]
    quick = slow._replace(apply=lambda image, severity: None, library="quick")
    monkeypatch.setitem(benchmark.ORIGINALS, "contrast", quick)
    medians, ours = benchmark.compare("contrast", photographs(), 3)
    assert medians["quick"] < medians["NumPy"] and 0 < ours < 1


def test_check_passes_and_prints_both_tables(check, capsys):
    with pytest.raises(SystemExit) as stopped:
        check.main(["--images=16", "--names=contrast,motion_blur,impulse_noise", "--severities=25"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and text.rstrip().endswith("Beyond a limit: none.")
    assert [row[1:] for row in rows(text, "contrast")] == [["2", "100.000", "0"], ["5", "100.000", "0"]]
    assert [len(row) for row in rows(text, "motion_blur")] == [4, 4, 10, 10]  # both tables
    assert [len(row) for row in rows(text, "impulse_noise")] == [10, 10]
    assert all(
        re.fullmatch(r"-?[\d.]+ / -?[\d.]+ \([+-][\d.]+\)", c) for c in rows(text, "impulse_noise")[0][2:]
    )


def test_check_fails_on_other_levels_and_on_another_distribution(check, monkeypatch, capsys):
    monkeypatch.setattr(check.corruptions, "corrupt", lambda key, pixels, name, severity: 0.97 * pixels)
    monkeypatch.setitem(check.LEAST, "contrast", 1.01)
    with pytest.raises(SystemExit) as stopped:
        check.main(["--images=16", "--names=contrast,impulse_noise", "--severities=2"])
    text = capsys.readouterr().out
    assert stopped.value.code == 1
    assert "Beyond a limit: contrast 2 (equal draws), impulse_noise 2 (mean)" in text


@pytest.mark.parametrize("arguments", [["--names=fgo"], ["--images=1"], ["--severities=6"]])
def test_bad_arguments_are_named(check, bench, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        check.main(arguments)
    assert stopped.value.code == 2 and arguments[0][2:6] in capsys.readouterr().err
    for wrong in (["--names=fgo"], ["--batch=0"], ["--severity=6"]):
        with pytest.raises(SystemExit) as stopped:
            bench.main(["corruptions", *wrong])
        assert stopped.value.code == 2 and wrong[0][2:6] in capsys.readouterr().err
