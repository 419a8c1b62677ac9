"""The table of finished runs."""

import json

from craft_jax import report


def write(path, **changes):
    result = {
        "status": "done",
        "method": "craft",
        "dataset": "digits",
        "seed": 3,
        "clean_accuracy": 91.234,
        "robust_accuracy": 80.0,
        "primary_metric": 82.81,
        "corruptions": {"fog": [80.0] * 5, "snow": [80.0] * 5},
        "teacher": {"name": "resnet56"},
        "config": {"student": {"name": "resnet8"}, "views": {"ce_views": "all"}},
    }
    path.mkdir()
    (path / "results.json").write_text(json.dumps(result | changes))
    return str(path)


def test_a_row_a_run_and_what_the_mean_is_over(tmp_path, capsys):
    craft = write(tmp_path / "craft")
    erm = write(tmp_path / "erm", method="erm", teacher=None)
    stopped = write(tmp_path / "stopped", status="stopped", corruptions={})
    assert report.main([craft, erm, stopped]) == 0
    header, rule, *rows, all_of, none = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)]
    assert cells[0][-3:] == ["clean", "robust", "primary"]
    assert cells[1] == [
        craft,
        "craft",
        "digits",
        "resnet8",
        "resnet56",
        "all",
        "3",
        "91.23",
        "80.00",
        "82.81",
    ]
    assert cells[2][4] == "-"
    assert cells[3][-3:] == ["stopped", "-", "-"]
    assert len({len(line) for line in (header, rule, *rows)}) == 1
    assert all_of == f"robust, {craft}, {erm}: mean over fog, snow"
    assert none == f"robust, {stopped}: mean over nothing"


def test_a_directory_without_a_result_is_named(tmp_path, capsys):
    assert report.main([str(tmp_path)]) == 2
    assert str(tmp_path / "results.json") in capsys.readouterr().err
