"""Configuration files and overrides: text in, a ConfigDict out, every fault in one message."""

import ast
import difflib
import importlib.util
import sys
from pathlib import Path

import ml_collections

from craft_jax.config.rules import faults_of
from craft_jax.config.tree import flatten
from craft_jax.errors import ConfigError


def load(spec, overrides=(), training=True):
    """Read `FILE[:preset]` and apply overrides.

    Args:
      spec: path of a Python file that defines `get_config(preset)`, a colon and a preset if any.
      overrides: sequence of (dotted key, text value); a value takes the type of the key's default.
      training: whether faults of what training alone reads are listed beside those found here.
    Returns:
      A locked ConfigDict.
    Raises:
      ConfigError: the file, the preset, or any of the overrides is wrong; every fault is in the message.
    """
    path, _, preset = spec.partition(":")
    if not Path(path).is_file():
        known = ", ".join(sorted(str(p) for p in Path("configs").glob("[!_]*.py")))
        raise ConfigError(f"--config: no file {path!r}; allowed: {known or 'a Python file'}")
    try:
        config = import_file(path).get_config(preset)
    except Exception as error:  # whatever the user's file raises
        fault = f"--config={spec}: {type(error).__name__}: {error}"
        raise ConfigError("\n".join([fault, *_other_faults(path, preset, overrides, training)])) from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(f"--config={spec}: get_config returned {type(config).__name__}, not a ConfigDict")
    if unusable := [f"config.{k}: {v!r}; {_VALUES}" for k, v in flatten(config).items() if not _usable(v)]:
        raise ConfigError("\n".join(f"--config={spec}: {fault}" for fault in unusable))
    return apply(config, overrides, training)


_VALUES = "allowed: a bool, an integer, a float, a string, or a tuple of such"


def _usable(value):
    """Whether a value can be overridden and comes back from config.json as it was."""
    values = value if type(value) is tuple else (value,)
    return all(type(v) in (bool, int, float, str) for v in values)


def _other_faults(path, preset, overrides, training):
    """The faults of the overrides where the preset is at fault: a bad one must not hide them."""
    try:
        config = apply(import_file(path).get_config(""), overrides, training) if preset else None
        return faults_of(config, training) if preset else []
    except ConfigError as error:
        return [str(error)]
    except Exception:  # the file itself is at fault, which is said already
        return []


def apply(config, overrides, training):
    """Set every override on `config` and return it.

    Args:
      config: a ConfigDict.
      overrides: sequence of (dotted key, text value).
      training: as of `load`.
    Raises:
      ConfigError: the message lists every override that could not be set, and every other fault.
    """
    faults = []
    defaults = flatten(config)
    for key, text in overrides:
        try:
            override(config, key, text, defaults)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        # An override that could not be read must not hide the faults of those that could.
        raise ConfigError("\n".join(faults + list(faults_of(config, training))))
    return config


def import_file(path):
    """Run a Python file and return it as a module."""
    # A variant says `from configs import default`: let that work from any current directory.
    root = str(Path(path).resolve().parent.parent)
    sys.path.insert(0, root)
    try:
        module_spec = importlib.util.spec_from_file_location(f"_config_{Path(path).stem}", path)
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
    finally:
        sys.path.remove(root)
    return module


def override(config, key, text, defaults):
    """Set one dotted key from text, keeping the type of its default.

    Args:
      config: a ConfigDict.
      key: the dotted key.
      text: its new value.
      defaults: {dotted key: value}, before any override.
    Raises:
      ConfigError: an unknown key, or a text that is not of the key's type.
    """
    if key not in defaults:
        near = [k for k in defaults if k.startswith(key + ".")]
        near = near or difflib.get_close_matches(key, defaults, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; configs/default.py has them all"
        raise ConfigError(f"config.{key}: no such key{hint}")
    *sections, leaf = key.split(".")
    node = config
    for section in sections:
        node = node[section]
    node[leaf] = _parse(key, text, defaults[key])


def _parse(key, text, default):
    kind = type(default)
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ConfigError(f"config.{key}: {text!r} is not a bool; allowed: True, False")
    if kind is tuple:
        if not default:
            raise ConfigError(f"config.{key}: empty where it is defined, so that its type is not known")
        items = [t.strip().strip("'\"") for t in text.strip().strip("()[]").split(",")]
        element = type(default[0])
        return tuple(_parse(key, item, element()) for item in items if item)
    try:
        value = ast.literal_eval(text)
        if type(value) is kind or (kind is float and type(value) is int):
            return kind(value)
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError):
        pass  # what literal_eval and the conversion raise for odd texts
    raise ConfigError(f"config.{key}: {text!r} is not of type {kind.__name__}")
