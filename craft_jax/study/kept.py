"""Results that outlive the machine: small files in a folder that a repository can hold.

FOLDER/ARM-seedN-HASH.json   what the run's results.json says, and per image what was right (.npz beside it)
FOLDER/ARM-seedN-HASH.eval.NAME.json    the same of evaluations beside it
FOLDER/ARM-seedN-HASH.jsonl  a part of its metrics; .features.json beside it where they were computed
FOLDER/teachers/NAME/        the teachers, as exports (`craft_jax.runs.weights`)
FOLDER/STUDY.study.json      which of them belong to a study

HASH is of the teacher's parameters and of what the run's configuration changes in configs/default.py, so that
a key that comes later changes no name.
"""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path

from craft_jax import files, methods, streams
from craft_jax.config import changes, tree
from craft_jax.errors import CheckpointError
from craft_jax.runs import export, weights
from craft_jax.study import plan

MOST_BYTES = 4_000_000  # of a teacher that is kept with its weights; the paper's ResNet-56 has 3.5
_MOST_LINES = 60  # of a run's metrics, about 20 kB


def name_of(run: plan.Run, teacher_sha256: str | None) -> str:
    """ARM-seedN-HASH, for a teacher by the hash of its parameters (None without one)."""
    identity = {"changes": changes.of(run.config), "teacher": teacher_sha256}
    if run.data:
        identity["data"] = run.data
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{run.arm}-seed{run.seed}-{digest[:10]}"


def result_path(run: plan.Run, folder: Path | None, teachers: list[Path]) -> Path | None:
    """Where the run's finished result lies: in its directory, or kept in the folder; None if nowhere.

    Args:
      run: the run.
      folder: of kept results, or None.
      teachers: directories that may hold its teacher.
    Raises:
      CheckpointError: the directory holds another run; or a result has other draws than this version.
    """
    own = run.workdir / "results.json"
    if own.exists() and (run.workdir / "config.json").exists():
        _check_same(run)
        if _has_finished(own):
            return own
    if folder is None:
        return None
    teacher = find_teacher(run, teachers)
    if methods.needs_teacher(run.config) and teacher is None:
        return None
    path = folder / f"{name_of(run, sha256_of(teacher) if teacher else None)}.json"
    return path if path.exists() and _has_finished(path) else None


def _has_finished(path):
    result = files.read_json(path)
    if result["status"] == "done" and result.get("draws") != streams.DRAWS:
        raise CheckpointError(
            f"{path}: of draws {result.get('draws')}, this version's are {streams.DRAWS}: not of one study; "
            "allowed: another folder, or the version that began it"
        )
    return result["status"] == "done"


def _check_same(run):
    """A finished run is this one only if what it was evaluated on is the same, too."""
    stored = tree.from_json(files.read_json(run.workdir / "config.json"))
    old, new = changes.of(stored), changes.of(run.config)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if stored.seed != run.seed:
        keys.append("seed")
    if run.data and files.read_json(run.workdir / "dataset.json")["fingerprint"] != run.data:
        keys.append("the images of data.dir")
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
        files.copy(correct, path.with_suffix(".npz"))
    _keep_curves(run.workdir / "metrics.jsonl", path.with_suffix(".jsonl"))
    for beside in run.workdir.glob("eval/[!.]*"):  # evaluations, and what was right in them
        if beside.suffix in (".json", ".npz"):  # no locks, nor what a killed process was writing
            files.copy(beside, path.with_suffix(f".eval.{beside.name}"))
    features = run.workdir / "features.json"  # of `craft_jax.report features`
    if features.exists():
        files.copy(features, path.with_suffix(".features.json"))
    files.copy(run.workdir / "results.json", path)  # last: it says that the run is done
    return path


def _keep_curves(metrics, kept):
    """Keep about `_MOST_LINES` lines of a run's metrics: every k-th, and each with an evaluation."""
    if not metrics.exists():
        return
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    every = -(-len(lines) // _MOST_LINES)
    chosen = [
        x for i, x in enumerate(lines, 1) if i % every == 0 or i == len(lines) or '"clean_accuracy"' in x
    ]
    with files.whole(kept) as temporary:
        temporary.write_text("".join(chosen), encoding="utf-8")


def keep_teacher(directory: Path, folder: Path) -> None:
    """Keep a trained teacher in the folder: its records and, where they are small, its weights.

    It is called by network, method, seed and its parameters' hash.

    Args:
      directory: the teacher's working directory, or an export's.
      folder: of kept results.
    Raises:
      CraftError: safetensors is not installed, or the directory holds no network.
    """
    config = files.read_json(directory / "config.json")
    name = f"{config['student']['name']}-{config['method']}-seed{config['seed']}-{sha256_of(directory)[:10]}"
    kept = folder / "teachers" / name
    if kept.exists():
        return
    building = kept.with_name(f".{name}.{uuid.uuid4().hex}")  # two studies may keep the same teacher
    try:
        export.write_weights(directory, building)
        if (building / weights.FILE).stat().st_size > MOST_BYTES:
            (building / weights.FILE).unlink()
        with contextlib.suppress(OSError):  # the other study was faster
            os.replace(building, kept)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def find_teacher(run: plan.Run, places: list[Path]) -> Path | None:
    """The directory of the trained teacher that a run asks for; None if it needs none or there is none yet.

    Args:
      run: the run.
      places: directories of teachers' runs or exports.
    """
    if not methods.needs_teacher(run.config):
        return None
    if run.config.teacher.checkpoint:
        return Path(run.config.teacher.checkpoint).expanduser()
    wanted = plan.teacher_recipe(run.config, run.data)
    return next((place for place in places if is_trained(place) and _recipe(place) == wanted), None)


def _recipe(place):
    config = tree.from_json(files.read_json(place / "config.json"))
    return plan.trained_recipe(config, files.read_json(place / "dataset.json")["fingerprint"])


def is_trained(place: Path) -> bool:
    """Whether a directory holds a finished teacher."""
    path = place / "results.json"
    return path.exists() and files.read_json(path)["status"] == "done"


def sha256_of(teacher: Path) -> str:
    """The hash of a trained teacher's parameters, from its records."""
    return files.read_json(teacher / "results.json")["params_sha256"]


def has_weights(teacher: Path) -> bool:
    """Whether a teacher's directory can teach: a run's, or an export with its weights."""
    return (teacher / weights.FILE).exists() or (teacher / "checkpoints").is_dir()
