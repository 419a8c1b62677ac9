"""The README's example of a new method, run as it stands there."""

import re
from pathlib import Path

import pytest

from craft_jax import methods
from craft_jax.config import reader
from craft_jax.training import train

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.fixture
def forget_methods():
    before = dict(methods.METHODS)
    yield
    methods.METHODS.clear()
    methods.METHODS.update(before)


def test_the_worked_example_of_a_new_method_trains(tmp_path, make_config, digits, forget_methods):
    section = README.split("## Adding a method")[1].split("\n## ")[0]
    (source,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(source.splitlines()) <= 30
    (tmp_path / "my_method.py").write_text(source)
    config = reader.load(f"{tmp_path / 'my_method.py'}:smoke", [("gaps.weight", "50")])
    for section_name, value in make_config("kd", epochs=1).items():
        if section_name != "method":
            config[section_name] = value
    result = train.train_and_evaluate(config, tmp_path / "run", digits)
    assert result["method"] == "gaps" and result["config"]["gaps"] == {"weight": 50.0}
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    assert "loss/gaps" in last


def test_every_config_and_script_that_the_readme_names_is_there():
    root = Path(__file__).parent.parent
    named = set(re.findall(r"(?:configs|launch)/[\w/]+\.(?:py|sh)", README))
    assert named
    for path in named:
        assert (root / path).is_file(), path
