"""Two runs side by side."""

import csv

import numpy as np
import pytest

from craft_jax.report import __main__ as report
from craft_jax.report import compare
from craft_jax.report.page import images
from tests.report.fabricated import correctness, result, write


@pytest.fixture
def pair(tmp_path):
    """Two runs' directories with what each got right."""
    right = {"kd": {"clean": [1, 1, 1, 0], "fog/1": [1, 1, 0, 0], "fog/5": [1, 0, 0, 0]}}
    right["erm"] = {"clean": [1, 1, 0, 1], "fog/1": [1, 0, 0, 1], "fog/5": [0, 0, 0, 1]}
    for name, cells in right.items():
        write(tmp_path / name / "results.json", result(0, 75.0, 37.5, config={"method": name}))
        correctness(tmp_path / name / "results.npz", cells)
    return str(tmp_path / "kd"), str(tmp_path / "erm")


def read(folder, name):
    return list(csv.DictReader((folder / "tables" / f"{name}.csv").open(newline="")))


def test_what_differs(tmp_path, pair, capsys):
    assert report.main(["compare", *pair, f"--out={tmp_path / 'out'}"]) == 0
    out = tmp_path / "out"
    assert read(out, "configuration") == [{"key": "method", "kd": "kd", "erm": "erm"}]
    (row,) = (row for row in read(out, "accuracies") if row["metric"] == "robust")
    assert (row["kd"], row["difference"]) == ("37.500000", "0.000000")
    clean, fog = read(out, "corruptions")
    assert (clean["kd"], clean["difference"], clean["gained"], clean["lost"]) == (
        "75.000000", "0.000000", "25.000000", "25.000000"
    )  # fmt: skip
    numbers = [float(fog[key]) for key in ("kd", "erm", "difference", "gained", "lost")]
    assert numbers == pytest.approx([37.5, 37.5, 0.0, 25.0, 25.0])
    assert float(fog["low"]) < 0 < float(fog["high"])
    assert "| fog " in capsys.readouterr().out


def test_what_cannot_be_compared_is_said(tmp_path, pair, capsys):
    write(tmp_path / "erm" / "results.json", result(0, examples=7))
    assert report.main(["compare", *pair]) == 0
    out = capsys.readouterr().out
    assert "not compared image by image: other examples" in out
    assert "measured otherwise, by examples: differences are not of the networks alone" in out
    assert "other examples" in images.of_runs(*compare.read(pair).runs).missing
    assert report.main(["compare", pair[0], pair[0] + "/results.json"]) == 2
    assert "the same run twice" in capsys.readouterr().err
    write(tmp_path / "erm" / "results.json", result(0, status="stopped"))
    assert report.main(["compare", *pair]) == 2
    assert "status stopped; allowed: runs that are done" in capsys.readouterr().err


def test_cells_are_told_apart_by_name_and_are_of_these_very_results(tmp_path, pair, capsys):
    cells = {"cue absent": [1] * 4, "fog/5": [0, 0, 0, 1], "clean": [1, 1, 0, 1], "fog/1": [1, 0, 0, 1]}
    correctness(tmp_path / "erm" / "results.npz", cells)
    assert report.main(["compare", *pair, f"--out={tmp_path / 'out'}"]) == 0
    clean, fog = read(tmp_path / "out", "corruptions")
    assert (clean["gained"], fog["gained"], fog["lost"]) == ("25.000000", "25.000000", "25.000000")
    correctness(tmp_path / "erm" / "results.npz", cells | {"fog/1": [1, 1, 1, 1]})
    assert report.main(["compare", *pair]) == 0
    assert "image by image: the files beside the results have other accuracies" in capsys.readouterr().out
    del cells["fog/1"]
    correctness(tmp_path / "erm" / "results.npz", cells)
    assert report.main(["compare", *pair]) == 0
    assert "image by image: the files beside the results are of other cells" in capsys.readouterr().out


def test_images_are_the_first_that_changed_sides():
    none = np.zeros(6, bool)
    ours = {"clean": none, "fog/1": none, "fog/3": np.array([1, 1, 1, 0, 0, 0], bool), "fog/5": none}
    theirs = {**dict.fromkeys(ours, none), "snow/3": none}
    ours["snow/3"] = np.array([1, 1, 0, 1, 0, 0], bool)
    theirs["fog/3"] = np.array([0, 0, 0, 0, 0, 1], bool)
    gained, lost = images.choose(ours, theirs)
    assert gained == [("fog", 3, 0), ("fog", 3, 1), ("snow", 3, 3)]  # no image twice
    assert lost == [("fog", 3, 5)]
