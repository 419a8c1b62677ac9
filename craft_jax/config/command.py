"""The command line: flags and overrides in, a checked configuration out; every fault in one message."""

import argparse
import ast
import math
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from craft_jax import data, errors, files, methods, models, processes, streams
from craft_jax.config import reader, rules, tree
from craft_jax.errors import ConfigError

MODES = ("train", "eval")
# Where things lie and what is printed: neither the run nor its figures.
_PLACES = (
    *("data.dir", "eval.dir", "log.", "checkpoint.", "compilation_cache"),
    *("student.checkpoint", "teacher.checkpoint", "teacher.cache", "distributed."),
    *("data.streaming", "data.memory_gb", "data.workers"),
)
EVAL_NAME = r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,99}"
EVAL_NAME_MEANS = "1 to 100 of letters, digits and . _ = + -, the first a letter or digit"

_EPILOG = """
modes
  train   train the student, going on from the newest checkpoint in the workdir, then evaluate it (default)
  eval    restore the workdir's student and evaluate it only; writes DIR/eval/NAME.json: --eval_name, or by
          default eval.source and the eval.* keys that differ from the run's own evaluation, such as
          regenerated-max_examples=100. The same name and settings replace what is there; other settings
          under a name in use are refused. python -m craft_jax.report DIR shows all of them

again
  --from_results=FILE trains the run that a results.json, or a study's kept JSON file, records, and compares:
  inputs, parameters and figures, hash by hash. Where things lie may be set: --config.data.dir, .eval.dir,
  .teacher.checkpoint, .teacher.cache and .student.checkpoint; also log.*, checkpoint.*, distributed.* and
  data.streaming, .memory_gb and .workers.
  The same machine, number of devices and versions give the same bits on a CPU. A method or network of your
  own needs its file again, --config=FILE.

overrides
  --config.KEY=VALUE sets a key of the configuration, e.g. --config.seed=1 --config.dealign.weight=0.
  A tuple is VALUE,VALUE. configs/default.py lists every key with its meaning.

debugging
  --debug shows, above the message of a fault, where in the code it was found.

exit status
  0   done
  1   done, and --from_results found another result than is recorded
  2   something to put right: the message says what
  3   training stopped at a loss or gradient that was not finite
  75  interrupted by SIGTERM or SIGINT (Ctrl-C), the training so far saved: run the same command again
      (a second signal does not wait for the saving: 143, 130)
  76  another process of the run is gone (distributed.*): run the same command again. Where JAX itself notices
      first, the message is its own and the status 134
"""


class Options(NamedTuple):
    """A parsed command.

    Attributes:
      config: a validated ConfigDict.
      workdir: a path.
      mode: one of MODES.
      eval_name: what to call an evaluation, "" for a name made of what it is.
      recorded: what the file of --from_results holds; None without.
    """

    config: Any
    workdir: str
    mode: str
    eval_name: str
    recorded: Any = None


class _Parser(errors.Parser):
    def format_help(self):
        # Read the configs for --help alone: one that is broken must not stop a command that names another.
        return super().format_help() + _configs()


def parse(argv):
    """Parse a command line, and join the other processes of the run where it names them.

    Args:
      argv: the arguments, without the program's name.
    Returns:
      Options.
    Raises:
      ConfigError: the message lists every fault.
    """
    parser = _Parser(
        prog="python -m craft_jax.main",
        description="Train a student by a distillation method; measure it on clean and corrupted images.",
        epilog=_EPILOG,
    )
    parser.add_argument("--config", metavar="FILE[:PRESET]", help="a configuration file and its presets")
    parser.add_argument("--workdir", metavar="DIR", help="the run's place (default: runs/NAME_DATA_seedN)")
    parser.add_argument("--mode", default="train", help="train or eval")
    parser.add_argument("--from_results", metavar="FILE", help="train the run that FILE records, and compare")
    parser.add_argument("--eval_name", metavar="NAME", help="with --mode=eval: writes DIR/eval/NAME.json")
    options, rest = parser.parse_known_args(argv)
    overrides, faults = overrides_of(rest)
    if options.mode not in MODES:
        faults.append(f"--mode: {options.mode!r} is unknown; allowed: {', '.join(MODES)}")
    if options.eval_name is not None:
        faults += _name_faults(options)
    try:
        options.recorded = _recorded(options, overrides)
        config = _config(options, overrides)
        if not faults:
            rules.validate_distributed(config)
            processes.start(config)  # the rules count the devices of all processes
        check = rules.validate if options.mode == "eval" else rules.validate_training
        check(config)
    except ConfigError as error:
        faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    for note in methods.notes(config, [key for key, _ in overrides]):
        print(f"note: {note}", file=sys.stderr)
    workdir = options.workdir or _default_workdir(options, config)
    return Options(config, workdir, options.mode, options.eval_name or "", options.recorded)


def is_eval_name(name):
    """Whether DIR/eval/NAME.json can be called so: a plain file name on any system."""
    return re.fullmatch(EVAL_NAME, name) is not None


def _name_faults(options):
    if not is_eval_name(options.eval_name):
        yield f"--eval_name: {options.eval_name!r}; allowed: {EVAL_NAME_MEANS}"
    if options.mode != "eval":
        yield "--eval_name: only --mode=eval reads it"


def _config(options, overrides):
    training = options.mode != "eval"
    if options.from_results:
        if options.config:
            reader.load(options.config, (), training)  # for what it registers
        return _stored(options.from_results, options.recorded["config"], overrides, training)
    if options.config:
        return reader.load(options.config, overrides, training)
    if options.mode == "eval" and options.workdir:
        path = Path(options.workdir) / "config.json"
        return _stored(path, files.read_json(path), overrides, training)
    raise ConfigError("--config: missing; e.g. --config=configs/craft.py:digits")


def _stored(path, stored, overrides, training):
    """The configuration that a file of a run holds, with overrides."""
    if not isinstance(stored, dict):
        raise ConfigError(f"{path}: not a configuration")
    config = reader.apply(tree.from_json(stored), overrides, training)
    flat = tree.flatten(config)
    for key, known in (("method", methods.METHODS), ("student.name", models.REGISTRY)):
        if key in flat and flat[key] not in known:
            raise ConfigError(
                f"config.{key}: {flat[key]!r} of {path} is unknown; allowed: "
                f"{', '.join(known)}. One of a file of your own needs --config=FILE again"
            )
    return config


def _recorded(options, overrides):
    """What the file of --from_results holds, of a run that is done; None without one.

    Raises:
      ConfigError: it holds something else, or something is asked for beside it that is another run.
    """
    path = options.from_results
    if not path:
        return None
    found = files.read_json(path)
    wanted = {"status", "config", "data", "params_sha256"}
    if not isinstance(found, dict) or not wanted <= found.keys() or not isinstance(found["config"], dict):
        raise ConfigError(
            f"--from_results: {path} is not the result of a run; allowed: a results.json of one"
        )
    faults = [
        f"config.{key}: {path} says what it is; allowed beside --from_results: {', '.join(_PLACES)}"
        for key, _ in overrides
        if not key.startswith(_PLACES)
    ]
    if (draws := found.get("draws")) != streams.DRAWS:
        faults.append(
            f"--from_results: the run of {path} drew its random numbers as another version does (draws: "
            f"{draws or 'not recorded'}; of this version: {streams.DRAWS}), so it cannot be repeated here; "
            f"allowed: a result of these draws, or the version that wrote it, commit {found.get('commit')}"
        )
    if found["status"] != "done":
        faults.append(f"--from_results: the run of {path} is {found['status']!r}; allowed: one that is done")
    if options.mode != "train":
        faults.append(f"--mode: {options.mode!r}; allowed beside --from_results: train")
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def overrides_of(rest):
    """([(dotted key, text)], faults) of words like `--config.a.b=value`, or `--config.a.b value`."""
    overrides, faults, rest = [], [], list(rest)
    while rest:
        word = rest.pop(0)
        match = re.fullmatch(r"--?config\.([\w.]+)(?:=(.*))?", word, re.DOTALL)
        if not match:
            faults.append(f"{word}: unknown argument; see --help")
        elif match[2] is not None:
            overrides.append((match[1], match[2]))
        elif rest and not rest[0].startswith("--"):
            overrides.append((match[1], rest.pop(0)))
        else:
            faults.append(f"{word}: no value; write {word}=VALUE")
    return overrides, faults


def _default_workdir(options, config):
    if not options.from_results:
        return default_workdir(options.config, config)
    path = Path(options.from_results).absolute()
    return str(Path("runs") / f"{path.parent.name if path.stem == 'results' else path.stem}_again")


def three_numbers(text):
    """The type of an argument R,G,B: three finite numbers.

    Raises:
      argparse.ArgumentTypeError: it is something else.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: three numbers, R,G,B")
    return values


def default_workdir(spec, config):
    """runs/FILE_DATA[_PRESET]_seedN, for a command without --workdir; DATA once if a preset is called so."""
    path, _, preset = spec.partition(":")
    presets = [name for name in preset.split(",") if name]
    dataset = config.data.name
    if dataset in data.OWN:  # of a directory all of its name, dots too
        own = Path(config.data.dir).absolute()
        dataset = own.stem if dataset == "npz" else own.name
    named = any(name == dataset or name.startswith(f"{dataset}_") for name in presets)
    parts = [Path(path).stem, *([] if named else [dataset]), *presets, f"seed{config.seed}"]
    return str(Path("runs") / "_".join(parts))


def _configs():
    """Configs and presets with the first line of their docstrings, where the current directory has them."""
    lines = ["", "configs"]
    for path in sorted(Path("configs").glob("[!_]*.py")):
        try:
            purpose = ast.get_docstring(ast.parse(path.read_bytes())) or ""
        except (SyntaxError, ValueError, OSError) as error:
            purpose = f"cannot be read: {error}"
        lines.append(f"  {path}  {purpose.partition(chr(10))[0]}")
    if Path("configs/_presets.py").is_file():
        presets = reader.import_file("configs/_presets.py").PRESETS
        lines += ["", "presets"]
        lines += [f"  :{name:16}{preset.__doc__.partition(chr(10))[0]}" for name, preset in presets.items()]
    return "\n".join(lines) + "\n"
