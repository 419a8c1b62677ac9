"""What an evaluation is called, DIR/eval/NAME.json, and that no other takes its name."""

import hashlib
import re
from pathlib import Path

from ml_collections import ConfigDict

from craft_jax import files
from craft_jax.config import command, tree
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.evaluation import adaptation, targets

# The eval.* keys that say what is measured, beside the source; no figure depends on the others.
_KEYS = (
    "split",
    "dir",
    "corruptions",
    "severities",
    "max_examples",
    "teacher",
    "reference",
    "primary_weights",
    "adaptation",
    *adaptation.KEYS,
)
_LONGEST_VALUE, _LONGEST_NAME = 24, 100  # characters


def path_of(workdir: str | Path, config: ConfigDict, own: ConfigDict, name: str = "") -> Path:
    """Where an evaluation is written.

    Args:
      workdir: the run's working directory.
      config: what is evaluated.
      own: the configuration of the run's own evaluation.
      name: what the user calls it; "" for `default`.
    Raises:
      ConfigError: no file may be called so.
    """
    if name and not command.is_eval_name(name):
        raise ConfigError(f"--eval_name: {name!r}; allowed: {command.EVAL_NAME_MEANS}")
    return Path(workdir) / "eval" / f"{name or default(config, own)}.json"


def default(config: ConfigDict, own: ConfigDict) -> str:
    """The source and what differs from the run's own evaluation: "regenerated-max_examples=100".

    A long or odd value is cut short and told apart by a hash.

    Args:
      config, own: as for `path_of`.
    """
    new, old = tree.flatten(config.eval), tree.flatten(own.eval)
    different = [key for key in _KEYS if key not in old or new[key] != old[key]]
    if config.eval.source == "regenerated":
        different = [key for key in different if key != "dir"]  # always empty there
    unread = set(adaptation.KEYS) - set(adaptation.READS[config.eval.adaptation])
    different = [key for key in different if key not in unread]
    name = "-".join([config.eval.source, *(f"{key}={_short(key, new[key])}" for key in different)])
    return _cut(name, _LONGEST_NAME)


def _short(key, value):
    if key in ("dir", "reference") and value:
        value = Path(value).expanduser().resolve().parts[-2 if key == "reference" else -1 :]
    text = "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return _cut(text or "none", _LONGEST_VALUE)


def _cut(text, length):
    plain = re.sub(r"[^A-Za-z0-9._=+-]", "_", text)
    if plain == text and len(text) <= length:
        return text
    return f"{plain[: length - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def check_free(path: Path, config: ConfigDict, record: targets.EvaluationRecord) -> None:
    """Refuse to replace an evaluation by another.

    One of the same images, under the same settings, is replaced, whatever student it was of: the run may
    have gone on since.

    Args:
      path: from `path_of`.
      config: what is evaluated.
      record: of the evaluation.
    Raises:
      ConfigError: the file is there and holds something else; the message says in what it differs.
    """
    if not path.exists():
        return
    try:
        stored = files.read_json(path)
        there = _settings(stored["config"], stored)
    except (CheckpointError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: no result of an evaluation; allowed: {_WAY_OUT}") from error
    wanted = _settings(tree.to_json(config), record)
    different = [key for key in wanted if there[key] != wanted[key]]
    if different:
        raise ConfigError(
            f"{path}: the name is in use by an evaluation that differs in {', '.join(different)}; "
            f"allowed: {_WAY_OUT}"
        )


_WAY_OUT = "another name (--eval_name=NAME), or move the file away"


def _settings(config, result):
    """{what: value} of what an evaluation's figures depend on, the student aside."""
    where = targets.comparable(result)
    # Known by what was found there, or recorded.
    found = ("split", "dir", "max_examples", "adaptation", *adaptation.KEYS)
    keys = [key for key in _KEYS if key not in found]
    del where["cells"]
    return where | {f"eval.{key}": config["eval"].get(key) for key in keys}
