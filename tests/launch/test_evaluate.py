"""Where an evaluation's time goes: the shares that `bench.py evaluate --parts` prints."""

import json

import pytest

from launch.benchmarks import evaluate


def test_the_parts_are_the_whole(capsys):
    evaluate.report_parts(5, True, names=("contrast", "fog"), networks=("tiny",))
    *table, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)["parts"]
    assert list(found) == ["contrast", "fog"] and [line.split()[1] for line in table[-2:]] == list(found)
    for row in found.values():
        assert row["images_per_s"] > 0
        assert sum(row[part] for part in evaluate.PARTS) == pytest.approx(100)
        assert all(row[part] >= 0 for part in evaluate.PARTS) and row["networks"] > 0


def test_each_part_is_what_an_evaluation_does(monkeypatch):
    """The corruption's seconds are those beyond the transfer, which it contains."""
    seconds = {"transferred": 1.0, "corrupted": 5.0, "classified": 3.0}
    monkeypatch.setattr(evaluate, "_seconds", lambda call: call() is None or seconds[call.__name__])
    assert evaluate.seconds_of_parts(3, ("tiny",))("contrast") == (1.0, 4.0, 3.0)


def test_bad_arguments_are_named(capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--parts", "--images=0"])
    assert stop.value.code == 2 and "--images must be at least 1" in capsys.readouterr().err
