"""What an evaluation is compared with: a run measured on the very same images."""

import json

import pytest

from craft_jax.errors import ConfigError
from craft_jax.evaluation import targets

ROW = [50.0, None, None, None, 40.0]
RESULT = {
    "data": {"fingerprint": "f"},
    "source": "cifar10_c",
    "source_record": {"fingerprint": "g", "dir": "here"},
    "evaluation_split": "test",
    "examples": 7,
    "frost_pictures": None,
    "corruptions": {"fog": ROW},
}


def write(path, result):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))


def test_the_same_files_elsewhere_are_the_same(tmp_path):
    write(
        tmp_path / "results.json", RESULT | {"source_record": {"fingerprint": "g", "dir": "there"}, "mark": 1}
    )
    assert targets.find_reference(tmp_path, targets.comparable(RESULT))["mark"] == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": {"fingerprint": "other"}}, "data"),
        ({"source": "regenerated"}, "source"),
        ({"source_record": {"fingerprint": "h"}}, "files"),
        ({"evaluation_split": "validation"}, "evaluation split"),
        ({"examples": 9}, "examples"),
        ({"frost_pictures": "procedural"}, "frost pictures"),
        ({"corruptions": {"fog": [50.0] * 5}}, "cells"),
        ({"corruptions": {"snow": ROW}}, "cells"),
    ],
)
def test_other_images_are_no_reference(tmp_path, change, named):
    write(tmp_path / "results.json", RESULT | change)
    with pytest.raises(ConfigError, match=rf"results\.json differs in {named}$"):
        targets.find_reference(tmp_path, targets.comparable(RESULT))


def test_later_evaluations_are_searched_and_broken_ones_passed_over(tmp_path):
    wanted = targets.comparable(RESULT)
    write(tmp_path / "results.json", RESULT | {"source": "regenerated"})
    write(tmp_path / "eval" / "a.json", [])
    (tmp_path / "eval" / "b.json").write_text("{")
    with pytest.raises(ConfigError) as error:
        targets.find_reference(tmp_path, wanted)
    for text in ("results.json differs in source", "a.json is no result", "b.json: not readable as JSON"):
        assert text in str(error.value)
    write(tmp_path / "eval" / "c.json", RESULT | {"mark": 2})
    assert targets.find_reference(tmp_path, wanted)["mark"] == 2


def test_nothing_to_compare(tmp_path):
    write(tmp_path / "results.json", RESULT | {"corruptions": {}})
    with pytest.raises(ConfigError, match="no corruptions to compare"):
        targets.find_reference(tmp_path, targets.comparable(RESULT | {"corruptions": {}}))
