"""Configurations as the files give them, with overrides, and what `validate_training` says of them."""

from pathlib import Path

from craft_jax.config import reader, rules, tree
from craft_jax.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PRESETS = reader.import_file(ROOT / "configs" / "_presets.py").PRESETS


def load(name="craft.py", **overrides):
    """A configuration; overrides are Python values, with `__` for the dot."""
    config = reader.load(str(ROOT / "configs" / name))
    for key, value in overrides.items():
        assign(config, key.replace("__", "."), value)
    return config


def assign(config, key, value):
    *sections, leaf = key.split(".")
    for section in sections:
        config = config[section]
    config[leaf] = value


def override(key, text, name="craft.py"):
    """The value of a key after an override."""
    config = reader.load(str(ROOT / "configs" / name), [(key, text)])
    return tree.flatten(config)[key]


def faults(config):
    """The lines of the message that `validate` gives, [] for a valid configuration."""
    try:
        rules.validate_training(config)
    except ConfigError as error:
        return str(error).split("\n")
    return []


def faults_at(config, key):
    return [line for line in faults(config) if line.startswith(f"config.{key}: ")]


DEFAULT = tree.flatten(load("default.py"))


def keys_of(*types):
    return [key for key, value in DEFAULT.items() if type(value) in types]
