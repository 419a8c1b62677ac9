"""configs/own_network.py, the README's example of a network of one's own, run as it stands there."""

from pathlib import Path

import numpy as np
import pytest

import craft_jax
from craft_jax import methods, models
from craft_jax.config import command, reader
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.runs import teachers
from craft_jax.training import train

FILE = Path(__file__).parent.parent / "configs" / "own_network.py"


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(models, "REGISTRY", {k: v for k, v in models.REGISTRY.items() if k != "smallnet"})


def test_the_example_trains_serves_and_teaches(tmp_path, make_config, digits, capsys):
    config = reader.load(f"{FILE}:smoke")
    assert config.student.name == "smallnet"
    for name, value in make_config(config.method, epochs=1).items():
        if name not in ("method", "student"):
            config[name] = value
    result = train.train_and_evaluate(config, tmp_path / "run", digits)
    assert result["cost"]["parameters"] > 0 and np.isfinite(result["clean"]["nll"])
    # Found again: its records and checkpoint, which have no batch statistics.
    (tmp_path / "run" / "results.json").unlink()
    again = train.train_and_evaluate(config, tmp_path / "run", digits)
    assert again["params_sha256"] == result["params_sha256"] and again["resumed_from"] == [4]
    assert teachers.load(tmp_path / "run", digits, config).record["name"] == "smallnet"

    del models.REGISTRY["smallnet"]  # as in another process
    with pytest.raises(CheckpointError, match=r"'smallnet', is none of this package's; import the file"):
        craft_jax.load(tmp_path / "run")
    words = [f"--workdir={tmp_path / 'run'}", "--mode=eval"]
    with pytest.raises(ConfigError, match=r"config\.student\.name: 'smallnet' .* needs --config=FILE again"):
        command.parse(words)


def test_networks_whose_stages_do_not_pair_are_refused_before_any_work(tmp_path, make_config, digits):
    config = make_config("attkd", **{"student.name": "tiny", "teacher.name": "vgg8"})
    with pytest.raises(ConfigError, match=r"attkd pairs every stage .*tiny has 3, vgg8 has 4"):
        train.train_and_evaluate(config, tmp_path / "run", digits)
    assert not list(tmp_path.iterdir())
    config = make_config("craft", **{"contrastive.stages": (2, 4), "student.name": "vgg8"})
    with pytest.raises(
        ConfigError, match=r"craft reads the stages 2, 4; allowed: those that both .*tiny has 3"
    ):
        train.train_and_evaluate(config, tmp_path / "run", digits)
    methods.check_stages(config, {"vgg8": 4, "resnet50": 4})
    methods.check_stages(make_config("kd"), {"tiny": 3, "vgg8": 4})
    methods.check_stages(make_config("attkd", **{"attention.weight": 0.0}), {"tiny": 3, "vgg8": 4})


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        (("attkd", "craft"), {"contrastive.stages": (1, 4)}, "craft reads the stages 1, 4; allowed: those"),
        (("nst", "fitnets"), {"fitnets.stage": 4}, "fitnets reads the stages 4; allowed: those that both"),
        (("kd", "nst"), {}, ""),
    ],
)
def test_each_part_of_a_sum_says_which_stages_it_needs(make_config, names, settings, said):
    config = make_config("combined", **{"combined.methods": names, **settings})
    methods.check_stages(config, {"vgg8": 4, "vgg13": 4})
    if not said:
        return methods.check_stages(config, {"a": 3, "b": 3})
    with pytest.raises(ConfigError, match=rf"config\.combined\.methods: {said}"):
        methods.check_stages(config, {"a": 3, "b": 3})


@pytest.mark.parametrize(("method", "said"), [("sp", r"-1 \(the last\)"), ("nst", "networks of as many, at")])
def test_networks_without_stages_are_refused_where_one_is_read(make_config, method, said):
    config = make_config(method)
    methods.check_stages(config, {"a": 1, "b": 1})
    with pytest.raises(ConfigError, match=said):
        methods.check_stages(config, {"a": 0, "b": 0})
