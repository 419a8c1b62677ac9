"""How a student's features follow its teacher's: `python -m craft_jax.report features DIR...`.

From a run's checkpoint and its teacher, on the images and the draws of the run's own evaluation (the first
`--examples` of them), into DIR/features.json, which the report's page then shows:

  cka        linear centred kernel alignment (Kornblith et al. 2019, section 3) of the two networks' pooled
             stages, in [0, 1]: of each stage, clean and under each corruption and severity. It is defined for
             networks of unequal widths, and does not change under rotation or scaling of either's features
  fragility  how far corruptions move the teacher's embedding of an image, beside the student's error on it
"""

import argparse
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from craft_jax import data, files, losses
from craft_jax.errors import ConfigError
from craft_jax.evaluation import evaluate, metrics
from craft_jax.mesh import make_mesh, replicated_on
from craft_jax.report import measures
from craft_jax.runs import checkpoint, predict, teachers

FILE = "features.json"
PARTS = 10  # equal parts of the images, by fragility


def main(argv):
    """Compute the features of runs; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m craft_jax.report features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workdirs", nargs="+", metavar="DIR", help="finished runs with a teacher")
    parser.add_argument("--examples", type=int, default=500, help="the first so many images (500)")
    options = parser.parse_args(argv)
    if options.examples < PARTS:
        raise ConfigError(f"--examples: {options.examples}; allowed: {PARTS} or more")
    for workdir in options.workdirs:
        files.write_json(Path(workdir) / FILE, of_run(workdir, options.examples))
        print(f"{Path(workdir) / FILE}", flush=True)
    return 0


def linear_cka(x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "N D2"]) -> float:
    """Linear centred kernel alignment of two networks' features of the same examples.

        CKA = |Yc^T Xc|_F^2 / (|Xc^T Xc|_F |Yc^T Yc|_F),  Xc, Yc without their columns' means

    Args:
      x, y: float64 or float32.
    Returns:
      A float in [0, 1]; 0 where one network's features are all the same.
    """
    x, y = (np.asarray(z, np.float64) - np.mean(z, axis=0, dtype=np.float64) for z in (x, y))
    norms = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(y.T @ x) ** 2 / norms) if norms else 0.0


def of_run(workdir, examples):
    """The contents of DIR/features.json.

    Returns:
      {"examples"; "params_sha256" of the student; "cka": {"clean": [a stage each], NAME: [[a stage each] or
      None, of severities 1 to 5]}; "fragility": `against_error`}.
    Raises:
      ConfigError: the run has no teacher, or one of another number of stages; or was not evaluated on
        corruptions made here, or on other images or draws than there are now.
      CheckpointError, DataError: a network or the data are not there.
    """
    student = predict.load(workdir)
    config = student.config
    if config.eval.source != "regenerated" or not config.eval.corruptions:
        raise ConfigError(f"{workdir}: evaluated on {config.eval.source}; allowed: corruptions made here")
    dataset = data.load(config)
    _check_same_images(Path(workdir, "results.json"), dataset)
    teacher = teachers.known(config, workdir, dataset)
    if teacher is None:
        raise ConfigError(f"{workdir}: {config.method} without a teacher; allowed: runs with one")
    images, labels, _ = dataset.evaluated(config.eval.split)
    count = min(examples, config.eval.max_examples or examples, len(labels))
    found = _Features(student, teacher, images[:count], config)
    own, taught = found.stages()
    if own != taught:
        raise ConfigError(
            f"{workdir}: a student of {own} stages and a teacher of {taught}, no pairs; allowed: as many"
        )
    clean = found.of(None, None)
    cka = {"clean": _alignment(*clean)}
    moved, wrong = np.zeros(count), np.zeros(count)
    cells = list(itertools.product(config.eval.corruptions, config.eval.severities))
    for name, severity in tqdm(cells, "features", disable=not config.log.progress, mininterval=0.5):
        own, taught = found.of(name, severity)
        cka.setdefault(name, [None] * 5)[severity - 1] = _alignment(own, taught)
        moved += np.linalg.norm(_embedding(taught) - _embedding(clean[1]), axis=1) / len(cells)
        wrong += ~metrics.correct(own[-1], labels[:count]) / len(cells)
    return {
        "examples": count,
        "params_sha256": checkpoint.params_sha256(student.variables),
        "cka": cka,
        "fragility": against_error(moved, wrong),
    }


def against_error(fragility: Float[np.ndarray, " N"], error: Float[np.ndarray, " N"]) -> dict:
    """The images in `PARTS` equal parts by fragility, the steadiest first.

    Args:
      fragility: the mean over corrupted cells of |z_T(c(x)) - z_T(x)|, z_T unit vectors: in [0, 2].
      error: the share of the cells in which the student is wrong, in [0, 1].
    Returns:
      {"fragility": a mean a part, "error": likewise, in percent, "correlation": Spearman's, or None}.
    """
    from scipy import stats

    order = np.array_split(np.argsort(fragility, kind="stable"), PARTS)
    constant = np.ptp(fragility) == 0 or np.ptp(error) == 0
    return {
        "fragility": [float(np.mean(fragility[part])) for part in order],
        "error": [100 * float(np.mean(error[part])) for part in order],
        "correlation": None if constant else float(stats.spearmanr(fragility, error).statistic),
    }


def _check_same_images(path, dataset):
    """Refuse a run whose evaluated images cannot be made again."""
    result = files.read_json(path)
    measures.check(path, result)
    if changed := measures.changed_since(result, dataset):
        raise ConfigError(
            f"{path}: measured on other {', '.join(changed)} than there are now; allowed: the same"
        )


class _Features:
    """Two networks' pooled stages and logits of the same images, clean or corrupted as evaluations do."""

    def __init__(self, student, teacher, images, config):
        self._mesh, self._images = make_mesh(), images
        self._batch_size = config.eval.batch_size
        self._networks, self._widths = [], []
        for network in (student, teacher):
            pooled = _pooled(network.model, self._mesh)
            variables = jax.device_put(network.variables, replicated_on(self._mesh))
            self._networks.append((pooled, variables))
            shapes = jax.eval_shape(
                lambda v, x, m=network.model: m.apply(v, x, False)[0],
                network.variables,
                jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32),
            )
            self._widths.append([stage.shape[-1] for stage in shapes.stages])

    def stages(self):
        """How many stages the student has, and the teacher."""
        return [len(of_stages) for of_stages in self._widths]

    def of(self, name, severity):
        """([stage 1 (N, C), ..., logits (N, K)] of the student, the same of the teacher)."""
        rows = evaluate.logits_of(self._networks, self._images, self._batch_size, self._mesh, name, severity)
        return [np.split(row, np.cumsum(w), axis=1) for row, w in zip(rows, self._widths, strict=True)]


def _pooled(model, mesh):
    """A network as one row an image: the means of its stages over positions, then its logits."""

    def predict(variables, images):
        outputs, _ = model.apply(variables, images, train=False)
        means = [jnp.mean(stage, axis=(1, 2), dtype=jnp.float32) for stage in outputs.stages]
        return jnp.concatenate([*means, outputs.logits], axis=1)

    return jax.jit(predict, out_shardings=replicated_on(mesh))


def _alignment(student, teacher):
    pairs = zip(student[:-1], teacher[:-1], strict=True)
    return [round(linear_cka(*pair), 5) for pair in pairs]


def _embedding(features):
    return np.asarray(losses.embed([jnp.asarray(stage)[:, None, None] for stage in features[:-1]]))
