"""Overrides: of the key's own type, of keys that exist, the last one counts."""

import pytest

from craft_jax.config import reader
from craft_jax.errors import ConfigError
from tests.config.loaded import DEFAULT, ROOT, faults_at, override


def test_override_faults_do_not_hide_the_others():
    path = str(ROOT / "configs" / "craft.py")
    with pytest.raises(ConfigError) as error:
        reader.load(path, [("seed", "x"), ("dealing.weight", "1"), ("epochs", "0"), ("kd.weight", "-1")])
    keys = [line.split(":")[0] for line in str(error.value).split("\n")]
    assert keys == ["config.seed", "config.dealing.weight", "config.epochs", "config.kd.weight"]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seed", "7", 7),
        ("seed", "1_000", 1000),
        ("kd.weight", "0.25", 0.25),
        ("kd.weight", "1", 1.0),
        ("kd.weight", "1e-3", 0.001),
        ("optimizer.weight_decay", "5e-4", 5e-4),
        ("reliability.alpha", "-1", -1.0),  # of the right type; the range is validate's matter
        ("data.flip", "False", False),
        ("data.flip", "true", True),
        ("student.name", "wrn-16-2", "wrn-16-2"),
        ("data.dir", "", ""),
        ("data.dir", "/a b/c=d,e", "/a b/c=d,e"),
        ("data.dir", "1", "1"),
        ("views.corruptions", "contrast", ("contrast",)),
        ("views.corruptions", "contrast,saturate", ("contrast", "saturate")),
        ("views.corruptions", "('contrast', \"saturate\")", ("contrast", "saturate")),
        ("views.corruptions", " contrast , saturate,", ("contrast", "saturate")),
        ("views.corruptions", "", ()),
        ("views.severities", "5", (5,)),
        ("views.severities", "(1, 3,)", (1, 3)),
        ("views.severities", "[1,3]", (1, 3)),
        ("eval.primary_weights", "1,0", (1.0, 0.0)),
    ],
)
def test_an_override_keeps_the_type(key, text, value):
    found = override(key, text)
    assert found == value
    assert type(found) is type(value) is type(DEFAULT[key])
    if isinstance(found, tuple):
        assert [type(x) for x in found] == [type(x) for x in value]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("seed", "1.5"),
        ("seed", "1.0"),
        ("seed", "True"),
        ("seed", "None"),
        ("seed", ""),
        ("seed", "one"),
        ("seed", "[1]"),
        ("seed", "1+1"),
        ("kd.weight", "True"),
        ("kd.weight", "nan"),
        ("kd.weight", "inf"),
        ("kd.weight", "'1'"),
        ("kd.weight", "1j"),
        ("kd.weight", "\0"),
        ("kd.weight", "__import__('os')"),
        ("kd.weight", "{[]: 1}"),  # literal_eval: TypeError
        ("kd.weight", "1" + "0" * 400),  # float(): OverflowError
        ("data.flip", "1"),
        ("data.flip", "0"),
        ("data.flip", "yes"),
        ("data.flip", ""),
        ("views.severities", "1,2.5"),
        ("views.severities", "one"),
        ("views.severities", "True"),
        ("eval.primary_weights", "a,b"),
    ],
)
def test_an_override_of_another_type_is_refused(key, text):
    with pytest.raises(ConfigError) as error:
        override(key, text)
    (line,) = str(error.value).split("\n")
    assert line.startswith(f"config.{key}: ")
    assert type(DEFAULT[key]).__name__ in line or isinstance(DEFAULT[key], tuple)


def test_an_infinite_override_does_not_get_through():
    for key in ("kd.weight", "reliability.alpha", "optimizer.learning_rate"):
        for text in ("1e999", "-1e999"):
            config = reader.load(str(ROOT / "configs" / "craft.py"), [(key, text)])
            assert faults_at(config, key), text


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("epoch", "epochs"),
        ("batchsize", "batch_size"),
        ("kd.wieght", "kd.weight"),
        ("dealing.weight", "dealign.weight"),
        ("view.count", "views.count"),
        ("contrastive.stage", "contrastive.stages"),
        ("optimiser.learning_rate", "optimizer.learning_rate"),
        ("seed.", "seed"),
    ],
)
def test_a_misspelt_key_suggests_the_right_one(key, near):
    with pytest.raises(ConfigError) as error:
        override(key, "1")
    (line,) = str(error.value).split("\n")
    assert line.startswith(f"config.{key}: no such key; did you mean ")
    assert near in line.partition("did you mean ")[2].rstrip("?").split(", ")


def test_a_hopeless_key_points_to_the_list():
    with pytest.raises(ConfigError, match=r"no such key; configs/default.py has them all"):
        override("zzz", "1")


@pytest.mark.parametrize("section", sorted({key.split(".")[0] for key in DEFAULT if "." in key}))
def test_a_section_is_not_a_key(section):
    with pytest.raises(ConfigError) as error:
        override(section, "1")
    line = str(error.value)
    assert line.startswith(f"config.{section}: no such key")
    assert f"{section}." in line.partition("did you mean ")[2], "it suggests none of the section's keys"


def test_the_last_override_of_a_key_wins():
    path = str(ROOT / "configs" / "craft.py")
    config = reader.load(path, [("seed", "1"), ("seed", "2")])
    assert config.seed == 2
    config = reader.load(path, [("views.corruptions", ""), ("views.corruptions", "saturate")])
    assert config.views.corruptions == ("saturate",)


def test_every_key_can_be_overridden_by_its_own_text():
    for key, value in DEFAULT.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert override(key, text, "default.py") == value
