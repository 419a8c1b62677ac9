"""A method in a user's own file, with keys of its own: overridden, stored, resumed, evaluated, compared."""

import json

import jax
import jax.numpy as jnp
import pytest

from craft_jax import data, methods
from craft_jax.config import command, reader, rules, tree
from craft_jax.errors import ConfigError, MethodError
from craft_jax.evaluation.workdirs import evaluate_workdir
from craft_jax.methods import Method, Terms
from craft_jax.training import train

SOURCE = """
import jax.numpy as jnp

from configs import default
from craft_jax import losses
from craft_jax.methods import METHODS, Method, Terms


def terms(config, s):
    ce = losses.cross_entropy(s.student.logits[:, 0], s.labels)
    gap = s.student.logits[:, 0] - s.teacher.logits[:, 0]
    return Terms({"ce": jnp.mean(ce), "own": config.own.weight * jnp.mean(gap**2)})


METHODS["own"] = Method(terms, views=lambda config: (1, 1), reads=lambda config: ("own.weight",))


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "own"
    with config.unlocked():
        config.own = OWN
    return config
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(own): a user's file whose section has these keys; returns its path."""
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))

    def write(own):
        (tmp_path / "mine.py").write_text(SOURCE.replace("OWN", repr(own)))
        return tmp_path / "mine.py"

    return write


OWN = {"weight": 1.0, "count": 2, "on": True, "kind": "a", "stages": (1, 3)}


def test_own_keys_are_overridden_with_their_types(write):
    overrides = [("weight", "2"), ("count", "3"), ("on", "False"), ("kind", "b"), ("stages", "2")]
    path = write(OWN)
    config = reader.load(f"{path}:smoke", [(f"own.{key}", text) for key, text in overrides])
    rules.validate(config)
    found = config.own.to_dict()
    assert found == {"weight": 2.0, "count": 3, "on": False, "kind": "b", "stages": (2,)}
    assert type(found["weight"]) is float
    assert tree.from_json(tree.to_json(config)).to_dict() == config.to_dict()
    assert config.is_locked and config.own.is_locked
    for key, text in (("own.count", "1.5"), ("own.wieght", "1")):
        with pytest.raises(ConfigError, match=f"config.{key}: "):
            reader.load(f"{path}:smoke", [(key, text)])


@pytest.mark.parametrize("value", [None, [1, 2], {"deep": (None,)}, (1, (2,))], ids=str)
def test_a_value_that_would_not_come_back_is_refused(write, value):
    with pytest.raises(ConfigError, match=r"config\.own\.\S+: .*; allowed: a bool, an integer, a float"):
        reader.load(f"{write({'weight': value})}:smoke")


def test_a_run_is_trained_continued_evaluated_and_compared(write, make_config, digits, tmp_path, monkeypatch):
    path = write({"weight": 1.0})
    monkeypatch.setattr(data, "load", lambda config: digits)

    def configured(*overrides):
        config = reader.load(f"{path}:smoke", overrides)
        for name, value in make_config("kd", epochs=1).items():
            if name != "method":
                config[name] = value
        return config

    config, workdir = configured(("own.weight", "2")), tmp_path / "run"
    result = train.train_and_evaluate(config, workdir, digits)
    assert result["config"]["own"] == {"weight": 2.0}
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["loss"] == pytest.approx(last["loss/ce"] + last["loss/own"], rel=1e-5)
    # Resumed: without its result the finished run is evaluated again from its last checkpoint.
    (workdir / "results.json").unlink()
    again = train.train_and_evaluate(config, workdir, digits)
    assert again["params_sha256"] == result["params_sha256"] and again["resumed_from"]
    measured, _ = evaluate_workdir(config, workdir)
    assert measured["clean_accuracy"] == result["clean_accuracy"]
    with pytest.raises(Exception, match=r"config\.own\.weight: 2\.0 in the working directory, 1\.0 now"):
        train.train_and_evaluate(configured(), workdir, digits)


def test_what_it_reads_is_noted(write, tmp_path, capsys):
    path = write({"weight": 1.0})
    words = [f"--config={path}:smoke", f"--workdir={tmp_path / 'run'}"]
    command.parse([*words, "--config.own.weight=2", "--config.kd.weight=3"])
    assert capsys.readouterr().err == "note: config.kd.weight has no effect in this run of method own\n"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (Terms({"ce": jnp.float32(1), "gap": jnp.ones(16)}), r"term gap: shape \(16,\); .* jnp\.mean"),
        (Terms({"gap": jnp.int32(1)}), "term gap: int32; allowed: a float"),
        (Terms({"gap": None}), "term gap: NoneType; allowed: a float"),
        (Terms({}), "its losses: {}; allowed: a dict of one term at least"),
        (Terms([jnp.float32(1)]), "its losses: .*; allowed: a dict"),
        ({"ce": jnp.float32(1)}, "what `terms` returns: dict; allowed: a methods.Terms"),
        (Terms({"ce": jnp.float32(1)}, memory={"seen": 1}), "its memory: .*; allowed: as before"),
    ],
    ids=["vector", "integer", "none", "empty", "list", "no Terms", "memory"],
)
def test_terms_that_cannot_be_minimised_name_themselves(returned, message):
    with pytest.raises(MethodError, match=f"method own: {message}"):
        methods.check_terms("own", returned, ())


def test_a_step_checks_its_terms(make_config, digits, tmp_path, monkeypatch):
    def terms(config, s):
        return Terms({"gap": jnp.max(s.student.logits[:, 0], axis=-1)})

    monkeypatch.setitem(methods.METHODS, "own", Method(terms, views=lambda config: (1, 0)))
    config = make_config("erm")
    config.method = "own"
    with pytest.raises(MethodError, match=r"term gap: shape \(16,\)"):
        train.train_and_evaluate(config, tmp_path / "run", digits)


def test_good_terms_pass_under_jit():
    def total(x):
        terms = Terms({"a": jnp.sum(x), "b": 0.0}, memory={"m": x})
        methods.check_terms("own", terms, {"m": 1})
        return sum(terms.losses.values())

    assert jax.jit(total)(jnp.ones(3, jnp.bfloat16)) == 3
