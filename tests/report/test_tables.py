"""The table of finished runs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from craft_jax.report import __main__ as report


def write(path, **changes):
    result = {
        "status": "done",
        "method": "craft",
        "dataset": "digits",
        "seed": 3,
        "clean_accuracy": 91.234,
        "robust_accuracy": 80.0,
        "primary_metric": 82.81,
        "source": "regenerated",
        "evaluation_split": "test",
        "data": {"fingerprint": "f"},
        "examples": 10,
        "corruptions": {"fog": [80.0] * 5, "snow": [80.0] * 5},
        "corrupted": {"nll": 0.6543, "ece": 0.0321, "confidence_on_errors": 0.7},
        "teacher": {"name": "resnet56"},
        "trained_corruptions": ["spatter"],
        "config": {"student": {"name": "resnet8"}, "views": {"ce_views": "all", "distill_views": "all"}},
    }
    path.mkdir(parents=True)
    (path / "results.json").write_text(json.dumps(result | changes))
    return str(path)


def test_a_row_a_run_and_what_the_mean_is_over(tmp_path, capsys):
    craft = write(tmp_path / "craft")
    views = {"ce_views": "clean", "distill_views": "clean"}
    config = {"student": {"name": "resnet8"}, "views": views}
    erm = write(tmp_path / "erm", method="erm", teacher=None, trained_corruptions=[], config=config)
    config = {"student": {"name": "resnet8"}, "views": views | {"kind": "augmix"}}
    changes = {"status": "stopped", "method": "augmix", "corruptions": {}, "trained_corruptions": []}
    stopped = write(tmp_path / "stopped", config=config, **changes)
    assert report.main([craft, erm, stopped]) == 0
    header, rule, *rows, all_of, none = capsys.readouterr().out.splitlines()[:7]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)]
    assert cells[0][-3:] == ["clean", "robust", "primary"]
    assert cells[1] == [
        craft,
        "craft",
        "digits",
        "resnet8",
        "resnet56",
        "corruptions, matched",
        "3",
        "91.23",
        "80.00",
        "82.81",
    ]
    assert cells[2][4:6] == ["-", "clean"]
    assert cells[3][-5:] == ["augmix", "3", "stopped", "-", "-"]
    assert len({len(line) for line in (header, rule, *rows)}) == 1
    assert all_of == f"robust, {craft}, {erm}: mean over fog, snow"
    assert none == f"robust, {stopped}: mean over nothing"


def cells_of(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_runs_of_other_draws_are_marked(tmp_path, capsys):
    """Their training views and evaluated images are others; a results.json without a name is older."""
    runs = [write(tmp_path / name, **facts) for name, facts in (("a", {"draws": "1"}), ("b", {"draws": "1"}))]
    assert report.main(runs) == 0
    assert "not to be compared" not in capsys.readouterr().out
    old = write(tmp_path / "old")
    assert report.main([*runs, old]) == 0
    out = capsys.readouterr().out
    assert f"draws 1: {runs[0]}, {runs[1]}; not to be compared with others\n" in out
    assert f"draws an older version's: {old}; not to be compared" in out


def test_figures_of_held_out_images_are_marked(tmp_path, capsys):
    tested = write(tmp_path / "tested")
    assert report.main([tested]) == 0
    assert "validation" not in capsys.readouterr().out
    tuned = write(tmp_path / "tuned", evaluation_split="validation")
    write(tmp_path / "tuned" / "eval", evaluation_split="validation", shifted=None, step=9)
    (tmp_path / "tuned" / "eval" / "results.json").rename(tmp_path / "tuned" / "eval" / "more.json")
    assert report.main([tested, tuned]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert cells_of(lines[2])[:3] == [tested, "craft", "digits"]
    assert cells_of(lines[3])[:3] == [tuned, "craft", "digits (validation)"]
    note = "on held-out training images; not to be compared with test images"
    assert f"validation, {tuned}: {note}" in lines
    (beside,) = (cells_of(line) for line in lines if "| more " in line)
    assert beside[:5] == [tuned, "more", "regenerated", "9", "10 (validation)"]
    assert report.main([tuned]) == 0
    assert f"validation: {note}" in capsys.readouterr().out.splitlines()


def test_parts_of_runs_that_are_done(tmp_path, capsys):
    teacher = {"agreement": {"clean": 99.0, "corrupted": 77.125}}
    table = {"fog": [80.0] * 5, "contrast": [60.0, None, None, None, 20.0], "gaussian_noise": [10.0] * 5}
    craft = write(tmp_path / "craft", corruptions=table, teacher_evaluation=teacher)
    stopped = write(tmp_path / "stopped", status="stopped", corruptions={})
    old = write(tmp_path / "old")  # measured before teachers were
    assert report.main([craft, stopped, old]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if "agreement" in line and line.startswith("| run"))
    head, first, second = cells_of(lines[start]), cells_of(lines[start + 2]), cells_of(lines[start + 3])
    found = dict(zip(head, first, strict=True))
    assert found == {
        **{"run": craft, "clean": "91.23", "robust": "80.00", "noise": "10.00", "blur": "-"},
        # without JPEG: (5*80 + 60 + 20 + 5*10) / 12; weather and digital: (5*80 + 60 + 20) / 7
        **{"no JPEG": "44.17", "weather": "80.00", "digital": "40.00", "weather+digital": "68.57"},
        **{"NLL": "0.654", "ECE": "0.032", "agreement": "77.12"},
    }
    assert second[0] == old and second[-1] == "-"
    assert stopped not in "".join(lines[start:])


def test_errors_against_a_reference(tmp_path, capsys):
    craft = write(tmp_path / "craft")
    erm = write(tmp_path / "erm", clean_accuracy=90.0, robust_accuracy=60.0, corruptions={
        "fog": [50.0] * 5, "snow": [70.0] * 5
    })  # fmt: skip
    assert report.main([craft, erm, "--reference", erm]) == 0
    lines = capsys.readouterr().out.splitlines()
    # CE: 20/50 and 20/30; relative: (20 - 8.766) / (50 - 10) and / (30 - 10)
    assert ["53.33", "42.13", "+1.23", "+20.00"] in [cells_of(line)[1:] for line in lines]
    assert ["100.00", "100.00", "+0.00", "+0.00"] in [cells_of(line)[1:] for line in lines]


def test_a_reference_measured_otherwise_is_refused(tmp_path, capsys):
    craft = write(tmp_path / "craft")
    other = write(tmp_path / "other", corruptions={"fog": [50.0] * 5}, examples=20)
    assert report.main([craft, "--reference", other]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "differs in examples, cells" in err


def test_a_directory_without_a_result_is_named(tmp_path, capsys):
    assert report.main([str(tmp_path)]) == 2
    assert str(tmp_path / "results.json") in capsys.readouterr().err
    for text in ("{}", "[]"):
        (tmp_path / "results.json").write_text(text)
        assert report.main([str(tmp_path)]) == 2
        assert "results.json: not the result of a run" in capsys.readouterr().err


def test_evaluations_beside_the_runs_own(tmp_path, capsys):
    craft = write(tmp_path / "craft")
    (tmp_path / "craft" / "eval").mkdir()
    measured = {"step": 40, "source": "regenerated", "examples": 100, "shifted": None}
    measured |= {"clean_accuracy": 90.0, "robust_accuracy": 70.0}
    measured |= {"corruptions": {"fog": [70.0, None, None, None, 70.0]}}
    natural = {"source": "cifar10_1", "shifted": {"accuracy": 83.25}, "robust_accuracy": None}
    for name, result in (("trial", measured), ("natural", measured | natural | {"corruptions": {}})):
        (tmp_path / "craft" / "eval" / f"{name}.json").write_text(json.dumps(result))
    assert report.main([str(tmp_path / "craft" / "results.json")]) == 0  # named by its directory
    found = [cells_of(line) for line in capsys.readouterr().out.splitlines()]
    assert [craft, "natural", "cifar10_1", "40", "100", "0", "90.00", "-", "83.25"] in found
    assert [craft, "trial", "regenerated", "40", "100", "2", "90.00", "70.00", "-"] in found
    (tmp_path / "craft" / "eval" / "trial.json").write_text("{}")
    assert report.main([craft]) == 2
    assert "eval/trial.json: not the result of an evaluation" in capsys.readouterr().err


def test_files_in_place_of_directories(tmp_path, capsys):
    """As under results/: a file is called by its stem, and by its path where another is called so too."""
    write(tmp_path / "a")
    shutil.move(tmp_path / "a" / "results.json", tmp_path / "a" / "kd_seed0.json")
    path = str(tmp_path / "a" / "kd_seed0.json")
    assert report.main([path, "--reference", path]) == 0
    out = capsys.readouterr().out
    assert cells_of(out.splitlines()[2])[0] == "kd_seed0"
    assert ["kd_seed0", "100.00", "100.00", "+0.00", "+0.00"] in [cells_of(x) for x in out.splitlines()]
    other = str(shutil.copytree(tmp_path / "a", tmp_path / "b") / "kd_seed0.json")
    assert report.main([path, other]) == 0
    assert [cells_of(x)[0] for x in capsys.readouterr().out.splitlines()[2:4]] == [path, other]


def test_the_projects_own_results_are_read(capsys):
    folder = Path(__file__).parents[2] / "results" / "digits"
    paths = sorted(str(path) for path in folder.glob("*-seed*.json"))  # not the study's own file
    assert len(paths) == 95
    assert report.main(paths) == 0
    rows = capsys.readouterr().out.splitlines()[2 : 2 + len(paths)]
    assert [cells_of(row)[0] for row in rows] == [Path(path).stem for path in paths]


def test_a_reference_that_loses_nothing_is_said_below_the_table(tmp_path, capsys):
    craft = write(tmp_path / "craft")
    steady = write(tmp_path / "erm", clean_accuracy=80.3)
    assert report.main([craft, "--reference", steady]) == 0
    out = capsys.readouterr().out
    assert ["100.00", "-", "+10.93", "+0.00"] in [cells_of(line)[1:] for line in out.splitlines()]
    assert (
        "relative mCE: - (the reference loses, in points: 0.3 under fog, 0.3 under snow; defined from 1)"
        in out
    )


def test_a_table_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "out" / "tables" / "arms.csv").mkdir(parents=True)
    assert report.main([write(tmp_path / "craft"), "--out", str(tmp_path / "out")]) == 2
    assert f"{tmp_path}/out/tables/arms.csv: cannot be written (Is a directory" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    """As `| head -1` does, but certain to be gone before anything is written."""
    words = [sys.executable, "-m", "craft_jax.report", write(tmp_path / "craft")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)
