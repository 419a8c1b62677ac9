"""Results that outlive the machine: small files in a folder that a repository can hold.

FOLDER/ARM-seedN-HASH.json   what the run's results.json says, and per image what was right (.npz beside it)
FOLDER/teachers/NAME/        the teachers, as exports (`craft_jax.runs.weights`)
FOLDER/STUDY.study.json      which of them belong to a study

HASH is of the teacher's parameters and of what the run's configuration changes in configs/default.py, so that
a key that comes later changes no name.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from craft_jax import files, methods, streams
from craft_jax.config import reader, tree
from craft_jax.errors import CheckpointError
from craft_jax.runs import export, weights
from craft_jax.study import plan

MOST_BYTES = 3_000_000  # of a teacher that is kept with its weights
_DEFAULTS = Path(__file__).resolve().parents[2] / "configs" / "default.py"

# Keys that change no figure of a result, and the seed, which a name has already.
_IRRELEVANT = (
    *("seed", "data.dir", "teacher.cache", "teacher.checkpoint", "compilation_cache"),
    *("eval.teacher", "eval.batch_size", "eval.clean_every_epochs", "eval.dir", "eval.reference"),
)
_IRRELEVANT_SECTIONS = ("log.", "checkpoint.")


def name_of(run: plan.Run, teacher_sha256: str | None) -> str:
    """ARM-seedN-HASH, for a teacher by the hash of its parameters (None without one)."""
    identity = {"changes": _changes(run.config), "teacher": teacher_sha256}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{run.arm}-seed{run.seed}-{digest[:10]}"


def _changes(config):
    """What a configuration changes in the defaults: {dotted key: value}."""
    default = tree.flatten(reader.load(str(_DEFAULTS)))
    flat = tree.flatten(config)
    return {
        key: flat[key]
        for key in sorted(flat)
        if key not in _IRRELEVANT
        and not key.startswith(_IRRELEVANT_SECTIONS)
        and (key not in default or default[key] != flat[key])
    }


def result_path(run: plan.Run, folder: Path | None, teachers: list[Path]) -> Path | None:
    """Where the run's finished result lies: in its directory, or kept in the folder; None if nowhere.

    Args:
      run: the run.
      folder: of kept results, or None.
      teachers: directories that may hold its teacher.
    Raises:
      CheckpointError: the directory holds another run; or the kept result has other draws than this version.
    """
    own = run.workdir / "results.json"
    if own.exists() and (run.workdir / "config.json").exists():
        _check_same(run)
        if files.read_json(own)["status"] == "done":
            return own
    if folder is None:
        return None
    teacher = find_teacher(run.config, teachers)
    if methods.needs_teacher(run.config) and teacher is None:
        return None
    path = folder / f"{name_of(run, sha256_of(teacher) if teacher else None)}.json"
    if not path.exists():
        return None
    draws = files.read_json(path).get("draws")
    if draws != streams.DRAWS:
        raise CheckpointError(
            f"{path}: of draws {draws}, this version's are {streams.DRAWS}: not of one study; "
            "allowed: another --results folder, or the version that began it"
        )
    return path


def _check_same(run):
    """A finished run is this one only if what it was evaluated on is the same, too."""
    stored = tree.from_json(files.read_json(run.workdir / "config.json"))
    old, new = _changes(stored), _changes(run.config)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if stored.seed != run.seed:
        keys.append("seed")
    if keys:
        raise CheckpointError(
            f"{run.workdir}: holds another run, which differs in {', '.join(keys)}; allowed: another --out, "
            "or move it away"
        )


def keep(run: plan.Run, folder: Path) -> Path:
    """Copy a finished run's result, and its teacher, into the folder; returns where the result now lies."""
    folder.mkdir(parents=True, exist_ok=True)
    result = files.read_json(run.workdir / "results.json")
    teacher = result["teacher"]
    path = folder / f"{name_of(run, teacher['params_sha256'] if teacher else None)}.json"
    correct = run.workdir / "results.npz"
    if correct.exists():
        _copy(correct, path.with_suffix(".npz"))
    _copy(run.workdir / "results.json", path)  # last: it says that the run is done
    return path


def keep_teacher(directory: Path, folder: Path) -> Path:
    """Keep a trained teacher in the folder: its records and, where they are small, its weights.

    Args:
      directory: the teacher's working directory.
      folder: of kept results.
    Raises:
      CraftError: safetensors is not installed.
    """
    kept = folder / "teachers" / directory.name
    if (kept / "results.json").exists():
        return kept
    building = kept.with_name(f".{kept.name}")
    shutil.rmtree(building, ignore_errors=True)
    export.write_weights(directory, building)
    if (building / weights.FILE).stat().st_size > MOST_BYTES:
        (building / weights.FILE).unlink()
    os.replace(building, kept)
    return kept


def find_teacher(config, places: list[Path]) -> Path | None:
    """The directory of the trained teacher that a configuration asks for; None if there is none yet.

    Args:
      config: the run's.
      places: directories of teachers' runs or exports.
    """
    if not methods.needs_teacher(config):
        return None
    if config.teacher.checkpoint:
        return Path(config.teacher.checkpoint).expanduser()
    wanted = plan.teacher_recipe(config)
    for place in filter(_is_done, places):
        if plan.trained_recipe(tree.from_json(files.read_json(place / "config.json"))) == wanted:
            return place
    return None


def _is_done(place):
    path = place / "results.json"
    return path.exists() and files.read_json(path)["status"] == "done"


def sha256_of(teacher: Path) -> str:
    """The hash of a trained teacher's parameters, from its records."""
    return files.read_json(teacher / "results.json")["params_sha256"]


def has_weights(teacher: Path) -> bool:
    """Whether a teacher's directory can teach: a run's, or an export with its weights."""
    return (teacher / weights.FILE).exists() or (teacher / "checkpoints").is_dir()


def _copy(source, target):
    weights.write(target, lambda path: shutil.copyfile(source, path))
