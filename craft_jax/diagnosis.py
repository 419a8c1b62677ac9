"""What a teacher has to give CRAFT: `python -m craft_jax.diagnosis --config=configs/craft.py:PRESET`.

The teacher alone (--config.teacher.checkpoint=DIR), on `--examples` of the images held out of training (the
test images where none are), for the score on as many training images too. No student is needed or trained.

  score       does the reliability differ from image to image, and does it know where the teacher errs? Views
              as training draws them, in whole batches. AUROC: the chance that an image on which the teacher
              is right scores above one on which it is wrong, 50 for a score that knows nothing. "Every view"
              favours what reads the agreement: views that disagree cannot all be right
  movement    how far each corruption moves the teacher's embedding (a unit vector), and how much of that all
              images share: the part of the squared movement that is the corruption's mean shift
  directions  how much of all corruptions' movement lies in its first directions (uncentred); and of the
              movement under the evaluated corruptions in the first directions of those trained on, which are
              all that de-alignment can learn from, beside the first of its own, the most that so many hold,
              and those in which clean images differ, along which any disturbance would move
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from craft_jax import data, errors, files, losses, streams, views
from craft_jax.config import command, tree
from craft_jax.errors import ConfigError
from craft_jax.evaluation import evaluate
from craft_jax.mesh import make_mesh, put, replicated_on, split_over
from craft_jax.report import tables
from craft_jax.runs import compilation_cache, results, teachers
from craft_jax.training.gradients import forward

TEMPERATURES = (2.0, 4.0)
DIRECTIONS = (1, 4, 8)
SEVERITIES = (1, 3, 5)
SEED = 0  # of the views
PERCENT = ("clean", "corrupted", "agreement")
WHOSE = {
    "all": "all movement %",
    "own": "evaluated %",
    "clean": "evaluated, in those of clean images %",
    "trained": "evaluated, in those of the trained %",
}


@errors.command
def main(argv):
    """Diagnose a teacher; returns the exit status."""
    options, config = _parse(argv)
    if config.compilation_cache:
        compilation_cache.use()
    found = of_teacher(config, options.examples)
    if options.out:
        files.write_json(options.out, found)
    print(errors.printable(text(found)), flush=True)
    return 0


def _parse(argv):
    parser = errors.Parser(prog="python -m craft_jax.diagnosis", description=__doc__)
    parser.add_argument("--config", required=True, metavar="FILE[:PRESET]", help="of a run by CRAFT")
    parser.add_argument("--examples", type=int, default=2000, metavar="N", help="images of each kind (2000)")
    parser.add_argument("--out", metavar="FILE", help="write the figures here too, as JSON")
    options, rest = parser.parse_known_args(argv)
    return options, command.parse([f"--config={options.config}", *rest]).config


def of_teacher(config, examples):
    """The figures of the module's head, as JSON holds them; shares, accuracies and AUROC in percent.

    Args:
      config: a run's, by CRAFT; teacher.checkpoint names the teacher.
      examples: how many training images, in whole batches, and how many held out, at most.
    Raises:
      ConfigError: the method is not CRAFT's, there is no corrupted view, no teacher is named, or there are
        fewer images than a batch has.
      CheckpointError, DataError: the teacher or the data are not there.
    """
    if config.method != "craft":
        raise ConfigError(f"config.method: {config.method!r}; allowed: 'craft', whose teacher is looked at")
    if not config.views.count:
        raise ConfigError("config.views.count: 0; allowed: 1 or more, or nothing moves the teacher")
    if not config.teacher.checkpoint:
        raise ConfigError("config.teacher.checkpoint: not set; allowed: a trained teacher's directory")
    dataset = data.load(config)
    teacher = teachers.load(config.teacher.checkpoint, dataset, config)
    held_out = dataset.evaluated("")
    parts = {"training": (dataset.train_images, dataset.train_labels), held_out.split: held_out[:2]}
    score = {}
    for name, (images, labels) in parts.items():
        count = min(examples, len(labels)) // config.batch_size * config.batch_size
        if count <= 0:
            raise ConfigError(
                f"--examples: {examples}, of {len(labels)} {name} images; allowed: config.batch_size "
                f"({config.batch_size}) or more"
            )
        score[name] = scored(_logits(teacher, images, count, config), labels[:count], config.reliability)
    clean, moved = _moved(teacher, held_out.images[:examples], config)
    return {
        "teacher": teacher.record["params_sha256"],
        "data": data.record(dataset),
        "config": tree.to_json(config),
        **results.circumstances(config),
        "seed": SEED,
        "score": score,
        "moved": {"examples": len(clean), "severities": SEVERITIES, "split": held_out.split},
        "movement": {name: movement(shifts) for name, shifts in moved.items()},
        "directions": directions(clean, moved, _trained(config), config.eval.corruptions),
    }


def _logits(teacher, images, count, config):
    """The teacher's logits (N, V, K) of the first `count` images, their views drawn as in training."""
    mesh = make_mesh()
    variables = put(teacher.variables, replicated_on(mesh))

    def look(variables, step, images):
        keys = [streams.stream(SEED, step, name) for name in (streams.CROPS, streams.CORRUPTIONS)]
        seen = views.make(*keys, images, config.views.count + 1, config, mesh)
        return forward(teacher.model, variables, seen, train=False)[0].logits

    look = jax.jit(look, out_shardings=replicated_on(mesh))
    starts = range(0, count, config.batch_size)
    batches = (np.asarray(images[start : start + config.batch_size]) for start in starts)
    rows = [
        np.asarray(look(variables, step, put(batch, split_over(mesh)))) for step, batch in enumerate(batches)
    ]
    return np.concatenate(rows)


# ----------------------------------------------------------------------------------------------------
# The score


def scored(logits: Float[np.ndarray, "N V K"], labels: Int[np.ndarray, " N"], settings) -> dict:
    """What r says of images and what it knows, by the teacher's logits; `settings`: keys of reliability.*"""
    p = np.asarray(jax.nn.softmax(logits))
    right = np.argmax(logits, axis=2) == labels[:, None]
    agree = np.mean(np.argmax(logits, axis=2) == np.argmax(logits[:, :1], axis=2), axis=1)
    r = np.asarray(losses.reliability(logits, settings.alpha, settings.beta, settings.gamma))
    scores = {"r": r, "agreement": agree}
    for temperature in (1.0, *TEMPERATURES):
        scores[f"-entropy, T={temperature:g}"] = -_entropy(logits / temperature)
    scores["-entropy, clean view"] = -_entropy(logits[:, :1])
    scores["clean confidence"] = p[:, 0].max(axis=1)
    scores["oracle"] = np.mean(np.take_along_axis(p, labels[:, None, None], axis=2), axis=(1, 2))
    return {
        "examples": len(labels),
        "clean": 100 * float(right[:, 0].mean()),
        "corrupted": 100 * float(right[:, 1:].mean()),
        "agreement": 100 * float(agree.mean()),
        "entropy": float(-scores["-entropy, T=1"].mean()),
        "r": {"mean": float(r.mean()), "sd": float(r.std()), "deciles": _deciles(r)},
        "auroc": {
            "clean view": {name: auroc(values, right[:, 0]) for name, values in scores.items()},
            "every view": {name: auroc(values, right.all(axis=1)) for name, values in scores.items()},
        },
    }


def _entropy(logits):
    """(N,): the mean over views of the entropy in nats."""
    return np.asarray(jnp.mean(jnp.sum(jax.scipy.special.entr(jax.nn.softmax(logits)), axis=2), axis=1))


def _deciles(values):
    return [float(part) for part in np.quantile(values, np.linspace(0.1, 0.9, 9))]


def auroc(scores: Float[np.ndarray, " N"], positive: Bool[np.ndarray, " N"]) -> float | None:
    """The chance, in percent, that a positive scores above a negative, ties counting half.

    None where all are positive, or none.
    """
    from scipy import stats

    if positive.all() or not positive.any():
        return None
    pairs = int(positive.sum()) * int((~positive).sum())
    return 100 * float(stats.mannwhitneyu(scores[positive], scores[~positive]).statistic) / pairs


# ----------------------------------------------------------------------------------------------------
# The movement


def _trained(config):
    return config.views.corruptions if config.views.kind == "corruptions" else ()


def _moved(teacher, images, config):
    """(embeddings of clean images (N, D), {corruption: (N', D) shifts of them, over `SEVERITIES`})."""
    mesh = make_mesh()
    variables = put(teacher.variables, replicated_on(mesh))

    def embed(variables, images):
        outputs, _ = teacher.model.apply(variables, images, train=False)
        return losses.embed([outputs.stages[i - 1] for i in config.contrastive.stages])

    network = jax.jit(embed, out_shardings=replicated_on(mesh)), variables

    def embedded(name=None, severity=None):
        return evaluate.logits_of([network], images, config.eval.batch_size, mesh, name, severity)[0]

    clean = embedded()
    return clean, {
        name: np.concatenate([embedded(name, severity) - clean for severity in SEVERITIES])
        for name in dict.fromkeys((*_trained(config), *config.eval.corruptions))
    }


def movement(shifts: Float[np.ndarray, "N D"]) -> dict:
    """Of one corruption: the root mean square length of a shift, and the mean shift's part of its square."""
    square = float(np.mean(np.sum(shifts**2, axis=1)))
    common = float(np.sum(np.mean(shifts, axis=0) ** 2))
    return {"length": square**0.5, "mean shift": 100 * common / square if square else 0.0}


def directions(clean: Float[np.ndarray, "N D"], moved: dict, trained: tuple, evaluated: tuple) -> dict | None:
    """How much movement few directions hold, each corruption weighing the same.

    Args:
      clean: embeddings of clean images.
      moved: {corruption: (N, D) shifts}.
      trained, evaluated: corruptions of it.
    Returns:
      {"dimensions": D; "cosine": the mean |cosine| of two corruptions' mean shifts, None of one alone;
      "parts": {k: percent of the squared movement, "all": of all in its first k directions, "own": of the
      evaluated in theirs, "clean": in the first k in which clean images differ, "trained": in those of the
      trained, where there are any}}; None where no evaluated corruption moves anything.
    """
    moved = {name: shifts for name, shifts in moved.items() if np.any(shifts)}
    trained, evaluated = ([name for name in names if name in moved] for names in (trained, evaluated))
    if not evaluated:
        return None
    everything, second = _scatter(moved, moved), _scatter(moved, evaluated)
    differ = _scatter({"clean": clean - clean.mean(axis=0)}, ["clean"])
    energies = {
        "all": _energy(everything, everything),
        "own": _energy(second, second),
        "clean": _energy(second, differ),
        **({"trained": _energy(second, _scatter(moved, trained))} if trained else {}),
    }
    parts = {str(k): {name: 100 * float(e[:k].sum()) for name, e in energies.items()} for k in DIRECTIONS}
    mean = np.array([shifts.mean(axis=0, dtype=np.float64) for shifts in moved.values()])
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    cosines = np.abs(mean @ mean.T)[np.triu_indices(len(mean), 1)]
    return {
        "dimensions": mean.shape[1],
        "cosine": float(cosines.mean()) if len(cosines) else None,
        "parts": parts,
    }


def _energy(second, by):
    """(D,): the parts of second moments (D, D) along the eigenvectors of others', those with most first."""
    _, vectors = np.linalg.eigh(by)
    return np.einsum("dk,de,ek->k", vectors, second, vectors)[::-1] / np.trace(second)


def _scatter(moved, names):
    """Sum over corruptions of the second moments (D, D) of their shifts, scaled to a trace of 1."""
    total = 0.0
    for name in names:
        shifts = np.asarray(moved[name], np.float64)
        total += shifts.T @ shifts / np.sum(shifts**2)
    return total


def text(found):
    """The figures of `of_teacher` as tables."""
    parts = found["score"]
    lines = [(what, *(f"{part[what]:.1f}" for part in parts.values())) for what in PERCENT]
    lines.append(("entropy, nats", *(f"{part['entropy']:.3f}" for part in parts.values())))
    spread = [part["r"] for part in parts.values()]
    lines.append(("r: mean (SD)", *(f"{r['mean']:.3f} ({r['sd']:.3f})" for r in spread)))
    lines.append(("r: deciles", *(" ".join(f"{x:.2f}" for x in r["deciles"]) for r in spread)))
    for where, score in ((w, name) for w, its in next(iter(parts.values()))["auroc"].items() for name in its):
        values = [part["auroc"][where][score] for part in parts.values()]
        shown = ("" if value is None else f"{value:.1f}" for value in values)
        lines.append((f"AUROC, {where}: {score}", *shown))
    moved = [(n, f"{m['length']:.3f}", f"{m['mean shift']:.1f}") for n, m in found["movement"].items()]
    told = [
        tables.table(("", *parts), lines),
        tables.table(("corruption", "movement", "mean shift %"), moved),
    ]
    if within := found["directions"]:
        shares = [(k, *(f"{value:.1f}" for value in its.values())) for k, its in within["parts"].items()]
        kinds = [WHOSE[kind] for kind in next(iter(within["parts"].values()))]
        told.append(tables.table((f"directions of {within['dimensions']}", *kinds), shares))
        if within["cosine"] is not None:
            told.append(f"mean |cosine| of two corruptions' mean shifts: {within['cosine']:.2f}")
    return "\n\n".join(told)


if __name__ == "__main__":
    sys.exit(main())
