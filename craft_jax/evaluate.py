"""A model in, its accuracies out: clean, and under each corruption and severity.

Corrupted images are made on the device from the test images. Their random draws belong to the
corruption, the severity and the image's index in the data set, so every run meets the same images and no
figure depends on the batch size or the number of devices.
"""

import functools
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from craft_jax import checkpoint, corruptions, data, methods, metrics, predict
from craft_jax import config as configuration
from craft_jax import mesh as meshes

# What the draws of every evaluation are folded from; never config.seed. Changing it changes every figure.
_EVALUATION_SEED = 20260


def predictor(model, mesh):
    """A jitted (variables, (B, H, W, C) float32 images in [0, 1]) -> (B, K) float32 logits on all devices."""

    def predict(variables, images):
        outputs, _ = model.apply(variables, images, train=False)
        return outputs.logits

    return jax.jit(predict, out_shardings=meshes.replicated(mesh))


def corruption_keys(name, severity, index):
    """The keys of images of the data set under one corruption: (B,) indices -> (B,) keys."""
    key = jax.random.key(_EVALUATION_SEED)
    key = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), severity)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(index)


@functools.partial(jax.jit, static_argnames=("name", "severity"))
def _prepare(images, index, name, severity):
    images = images.astype(jnp.float32) / 255.0
    if name is None:
        return images
    return corruptions.corrupt(corruption_keys(name, severity, index), images, name, severity)


def logits_of(predict, variables, images, batch_size, mesh, name=None, severity=None):
    """Logits of a whole set, clean or corrupted; every image once, in order.

    Args:
      predict: from `predictor`.
      variables: the model's.
      images: (N, H, W, C) uint8, NumPy.
      batch_size: images a step over all devices; the last batch is padded and the padding cut off.
      mesh: a mesh with the one axis "data".
      name, severity: a corruption, or None for clean images.
    Returns:
      (N, K) float32, NumPy.
    """
    sharding = meshes.split(mesh)
    batch_size = -(-batch_size // mesh.size) * mesh.size  # every device gets as many
    collected = []
    for start in range(0, len(images), batch_size):
        index = np.minimum(np.arange(start, start + batch_size), len(images) - 1)
        batch, rows = jax.device_put((images[index], index.astype(np.int32)), sharding)
        collected.append(predict(variables, _prepare(batch, rows, name, severity)))
    return np.concatenate([np.asarray(x) for x in collected])[: len(images)]


def clean_accuracy(predict, variables, dataset, config, mesh):
    """Clean accuracy in percent on the evaluation images."""
    images, labels = _subset(dataset, config)
    return metrics.accuracy(logits_of(predict, variables, images, config.eval.batch_size, mesh), labels)


def evaluate(predict, variables, dataset, config, mesh):
    """Clean and corrupted accuracy.

    Args:
      predict: from `predictor`.
      variables: the model's.
      dataset: a data.Dataset; its test images are used.
      config: reads eval.* and views.*.
      mesh: a mesh with the one axis "data".
    Returns:
      A JSON-able dict: "clean_accuracy", "robust_accuracy", "robust_accuracy_without_jpeg" and
      "primary_metric" in percent, "corruptions" (name -> five accuracies, None where not evaluated),
      "clean" and "corrupted" (nll in nats, ece in [0, 1]; corrupted ones are means over the cells),
      and the names of the corruptions trained on, evaluated on, and in both.
    """
    images, labels = _subset(dataset, config)
    logits = functools.partial(logits_of, predict, variables, images, config.eval.batch_size, mesh)
    clean = logits()
    cells = {}
    pairs = [(n, s) for n in config.eval.corruptions for s in config.eval.severities]
    for name, severity in tqdm(pairs, "evaluate", disable=not config.log.progress, mininterval=0.5):
        cells[name, severity] = logits(name=name, severity=severity)
    accuracies = {cell: metrics.accuracy(x, labels) for cell, x in cells.items()}
    clean_percent = metrics.accuracy(clean, labels)
    robust = float(np.mean(list(accuracies.values())))
    without_jpeg = [a for (name, _), a in accuracies.items() if name != "jpeg_compression"]
    weights = config.eval.primary_weights
    trained = methods.trained_corruptions(config)
    return {
        "source": config.eval.source,
        "evaluation_split": dataset.evaluation_split,
        "examples": len(labels),
        "clean_accuracy": clean_percent,
        "robust_accuracy": robust,
        "robust_accuracy_without_jpeg": float(np.mean(without_jpeg)) if without_jpeg else None,
        "primary_metric": weights[0] * clean_percent + weights[1] * robust,
        "corruptions": {
            name: [accuracies.get((name, severity)) for severity in (1, 2, 3, 4, 5)]
            for name in config.eval.corruptions
        },
        "clean": {"nll": metrics.nll(clean, labels), "ece": metrics.ece(clean, labels)},
        "corrupted": {
            "nll": float(np.mean([metrics.nll(x, labels) for x in cells.values()])),
            "ece": float(np.mean([metrics.ece(x, labels) for x in cells.values()])),
        },
        "trained_corruptions": trained,
        "evaluated_corruptions": list(config.eval.corruptions),
        "frost_pictures": corruptions.frost_source() if "frost" in config.eval.corruptions else None,
        "overlap_allowed": config.views.allow_overlap,
        "overlap": sorted(set(trained) & set(config.eval.corruptions)),
    }


def _subset(dataset, config):
    count = config.eval.max_examples or len(dataset.test_labels)
    return dataset.test_images[:count], dataset.test_labels[:count]


def evaluate_workdir(config, workdir):
    """Evaluate a run's newest student under `config.eval`; leaves its results.json alone.

    Args:
      config: the run's configuration; eval.*, data.dir, log.* and checkpoint.* may differ from it.
      workdir: the run's working directory.
    Returns:
      (result, path): what was measured, and DIR/eval/SOURCE.json, where it was written.
    Raises:
      CheckpointError: no student there, or one of another configuration or data set.
    """
    workdir = Path(workdir)
    configuration.validate(config)
    student = predict.load(workdir)
    dataset = data.load(config)
    checkpoint.check_same_run(workdir, config, data.card(dataset))
    mesh = meshes.make()
    variables = jax.device_put(student.variables, meshes.replicated(mesh))
    result = evaluate(predictor(student.model, mesh), variables, dataset, config, mesh)
    result |= {
        "workdir": str(workdir),
        "method": config.method,
        "seed": config.seed,
        "step": student.step,
        "params_sha256": checkpoint.params_sha256(student.variables),
        "config": configuration.to_json(config),
    }
    path = workdir / "eval" / f"{config.eval.source}.json"
    path.parent.mkdir(exist_ok=True)
    checkpoint.write_json(path, result)
    return result, path
