"""A finished run's files, and its export's, harmed one at a time: is each harm noticed, or harmless?

    python launch/chaos.py flips [--n=1000] [--seed=0] [--out=runs/flips]

A harm is a flipped bit (over half of them), a file cut short, gone, or exchanged for that of the run's other
checkpoint. A whole record of another run is not tried: it says whose it is by its content alone.
What reads the file is then asked: for a checkpoint a training that goes on and `craft_jax.load`, for an
export `craft_jax.load`, else the readers of records and of the images classified right. Noticed is an error
that a user is told, or a training that goes on from the other step and says so; harmless is the very same
content. All else counts against it, as does anything whole that is gone afterwards.

Logs are counted apart ("log only"): no line of metrics.jsonl has a checksum, so a harmed line is dropped, or
read as it is; all others must still be there after a resume. resumes.json has a checksum, but that it is gone
is not noticed: results then name the later resumes alone. TensorBoard's events are left out.

The last line says N/N noticed or harmless, of the others; the exit status is 0 if so, 1 if not.
"""

import argparse
import collections
import contextlib
import functools
import io
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from configs import craft
from craft_jax import files
from craft_jax.errors import CraftError
from craft_jax.evaluation import correctness
from craft_jax.report.page import training
from craft_jax.runs import checkpoint, export, results, weights
from craft_jax.training import logs, train

_RECORDS = ("config.json", "dataset.json", "teacher.json", "results.json", "model.json")
_LOGS = ("metrics.jsonl", "resumes.json")
_HARMS = ("flip", "flip", "flip", "flip", "cut", "delete", "exchange")


def main(argv):
    options = _parse(argv)
    out = Path(options.out)
    run, copy = _made(out), out / "harmed"
    whole = {place: _read(run, place) for place in _readers(run)} | {"older": _older(run, copy)}
    within = sorted(path.relative_to(run) for path in run.rglob("*") if _counts(path))
    counts, faults = collections.Counter(), []
    random = np.random.default_rng(options.seed)
    for number in range(options.n):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        file = within[random.integers(len(within))]
        done = _harm(copy, file, _HARMS[random.integers(len(_HARMS))], random)
        told = _asked(copy, file, whole)
        counts[done, told] += 1
        if told not in ("noticed", "harmless", "log only"):
            faults.append(f"{number}: {file}: {done}: {told}")
            print(faults[-1], flush=True)
    for (done, told), count in sorted(counts.items()):
        print(f"{done:10}{told:10}{count:6}")
    asked = options.n - sum(count for (_, told), count in counts.items() if told == "log only")
    print(f"{asked - len(faults)}/{asked} noticed or harmless")
    return 0 if not faults else 1


def _parse(argv):
    parser = argparse.ArgumentParser(
        "chaos.py flips", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--n", type=int, default=1000, help="harms; default 1000")
    parser.add_argument("--seed", type=int, default=0, help="of the harms; default 0")
    parser.add_argument("--out", default="runs/flips", help="directory of the runs; default runs/flips")
    options = parser.parse_args(argv)
    if options.n < 1:
        parser.error(f"--n={options.n}; allowed: at least 1")
    return options


def _counts(path):
    """Files whose content is used again; TensorBoard's events are read by people alone."""
    return path.is_file() and path.name != ".lock" and "tensorboard" not in path.parts


def _made(out):
    """A run of CRAFT at the smoke preset, with two checkpoints, the note of a resume and an export."""
    config = craft.get_config("smoke")
    config.teacher.cache = str(out / "teachers")
    config.log.progress = False
    train.train_and_evaluate(config, out / "run")
    if not results.resumes(out / "run"):
        results.record_resume(out / "run", 1)
    if not (out / "run" / "export").exists():
        export.write_weights(out / "run", out / "run" / "export")
    return out / "run"


def _harm(run, file, harm, random):
    """Harm one file; returns how, which is by a bit where the other way does not exist."""
    path = run / file
    content = bytearray(path.read_bytes())
    other = _of_the_other_step(run, file)
    if harm == "exchange" and other and other.exists() and other.read_bytes() != content:
        content = other.read_bytes()
    elif harm == "delete":
        path.unlink()
        return harm
    elif harm == "cut" and content:
        del content[random.integers(len(content)) :]
    elif content:
        harm, bit = "flip", random.integers(8 * len(content))
        content[bit // 8] ^= 1 << int(bit % 8)
    else:
        harm, content = "cut", b"\0"  # an empty file can only grow
    path.write_bytes(content)
    return harm


def _of_the_other_step(run, file):
    if file.parts[0] != "checkpoints":
        return None
    (step,) = {path.name for path in (run / "checkpoints").iterdir()} - {file.parts[1]}
    alike = sorted((run / "checkpoints" / step).joinpath(*file.parts[2:-1]).glob("*"))
    names = sorted(path.name for path in (run / file).parent.iterdir())
    at = names.index(file.name)  # the files of arrays have names of their own in each step
    return alike[at] if at < len(alike) and alike[at].is_file() else None


def _readers(run):
    """The parts of a run that are read as one."""
    places = ["checkpoints", "student", "results.npz", "export"]
    places += [name for name in (*_RECORDS, *_LOGS) if (run / name).exists()]
    return places + [f"export/{name}" for name in _RECORDS if (run / "export" / name).exists()]


def _older(run, copy):
    """The step before the newest, of a copy."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    shutil.rmtree(max((copy / "checkpoints").iterdir(), key=lambda path: int(path.name)))
    return _read(copy, "checkpoints")


@functools.cache
def _abstract(run):
    """The shapes of the run's state; the harmed copy has the same."""
    place = max((run.parent / "run" / "checkpoints").iterdir(), key=lambda path: int(path.name))
    state = ocp.load(place, checkpointable_name="default")
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def _read(run, place):
    """What the reader of a place makes of it, comparable by ==."""
    if place == "checkpoints":
        with checkpoint.Checkpoints(run, keep=2) as checkpoints:
            step, state = checkpoints.restore(_abstract(run))
        return step, checkpoint.sums(state)
    if place == "student":
        return _named(checkpoint.restore_student(run))
    if place == "export":
        return _named(weights.load(run / place))
    if place == "results.npz":
        return {cell: bits.tolist() for cell, bits in correctness.read(run / place).items()}
    if place == "metrics.jsonl":
        return _log(run)
    if place == "resumes.json":
        return results.resumes(run)
    return files.read_json(run / place)


def _log(run):
    """The lines of metrics.jsonl that a training which goes on keeps; the page reads them too."""
    logs.MetricWriter(run, sys.maxsize, tensorboard=False).close()
    training.read(run / "results.json")
    return (run / "metrics.jsonl").read_text().splitlines()


def _named(student):
    variables, step = student
    return step, checkpoint.params_sha256(variables)


def _asked(run, file, whole):
    """What all readers of one harmed file make of it: "noticed", "harmless" or what is wrong."""
    if file.parts[0] == "checkpoints":
        found = _of_step(run, file.parts[1], whole)
    else:
        place = "export" if file.parts[0] == "export" and file.name == weights.FILE else str(file)
        found = [_one(run, place, whole[place])]
    if wrong := [told for told in found if told not in ("noticed", "harmless", "log only")]:
        return "; ".join(wrong)
    return next(told for told in ("noticed", "log only", "harmless") if told in found)


def _of_step(run, step, whole):
    """What a training and `load` make of a harmed step: the older one is read when the newest is gone."""
    older, newest = sorted((path.name for path in (run / "checkpoints").iterdir()), key=int)
    if step == older:
        shutil.rmtree(run / "checkpoints" / newest)
        return [_one(run, "checkpoints", whole["older"])]
    before = _content(run / "checkpoints" / older)
    found = [_one(run, "student", whole["student"]), _one(run, "checkpoints", whole["checkpoints"])]
    if found[1] == "noticed":
        with contextlib.redirect_stderr(io.StringIO()):
            again = _read(run, "checkpoints")
        found[1] = "noticed" if again == whole["older"] else "refused, though the step before is whole"
        if (run / "damaged" / newest).is_dir() is False:
            found.append("the damaged step is gone")
    if _content(run / "checkpoints" / older) != before:
        found.append("the step before has changed")
    return found


def _content(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def _one(run, place, whole):
    said, path = io.StringIO(), run / place
    left = path.read_bytes().split(b"\n") if place == "metrics.jsonl" and path.exists() else []
    try:
        with contextlib.redirect_stderr(said):
            found = _read(run, place)
    except CraftError:
        return "noticed"
    except Exception as error:  # what a user would see as a traceback
        return f"{type(error).__name__}: {error}"
    if found == whole:
        return "harmless"
    if place == "checkpoints" and found[0] < whole[0] and "damaged" in said.getvalue():
        return "noticed"
    if place == "metrics.jsonl" and all(line in found for line in whole if line.encode() in left):
        return "log only"
    if place == "resumes.json" and not path.exists():
        return "log only"
    return "other content, and not a word"
