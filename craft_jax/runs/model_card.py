"""DIR/export/README.md: what an exported student is, how good, and how each of its files is used."""

import sys
from pathlib import Path

from craft_jax import errors, files
from craft_jax.errors import CheckpointError
from craft_jax.runs import checkpoint, onnx_format, weights

_CARD = "README.md"
# Of the data that comes with a name; as far as known to the authors of this package, who are no lawyers.
_LICENCES = {
    "cifar10": "CIFAR-10 (Krizhevsky 2009): its authors state no licence; they ask to be cited",
    "cifar100": "CIFAR-100 (Krizhevsky 2009): its authors state no licence; they ask to be cited",
    "imagenet2012": "ImageNet (Russakovsky et al. 2015): its terms of access allow non-commercial research",
    "digits": "Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), UCI: CC BY 4.0",
}
_LISTED = 100  # class names
_OWN = "images of your own: their licence is not known here"

_ONNX = """import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
images = np.full({shape}, 0.5, np.float32)  # RGB in [0, 1]: levels divided by 255
(logits,) = session.run(["logits"], {{"images": images}})
print(logits.argmax(-1))
"""

# file -> (what it is, ten lines that use it; {shape} is that of two images)
SNIPPETS = {
    weights.FILE: (
        "weights, safetensors: the format that lasts; with the JSON files beside it `craft_jax.load` and "
        "`--config.teacher.checkpoint` take this directory",
        """import numpy as np

import craft_jax

predict = craft_jax.load(".")
images = np.full({shape}, 0.5, np.float32)  # RGB in [0, 1]: levels divided by 255
logits = predict(images)
print(logits.argmax(-1))
""",
    ),
    "model.jax_export": (
        "a `jax.export` artefact: a function, weights included, without this package. It expires: "
        "by its compatibility window JAX promises to read it for six months from the release that wrote it",
        """import numpy as np
from jax import export

with open("model.jax_export", "rb") as file:
    function = export.deserialize(file.read())
images = np.full({shape}, 0.5, np.float32)  # RGB in [0, 1]: levels divided by 255
logits = function.call(images)
print(logits.argmax(-1))
""",
    ),
    onnx_format.FLOAT: (
        "ONNX, float32, any batch size, the normalisation inside",
        _ONNX,
    ),
    onnx_format.INT8: (
        "the same in int8, by onnxruntime's static quantisation; its accuracy is another, measure it",
        _ONNX,
    ),
    "torch.safetensors": (
        "a state dict for PyTorch code under its names; its metadata says whose, mean, std, classes",
        """import safetensors

with safetensors.safe_open("torch.safetensors", framework="pt") as file:
    state = {{name: file.get_tensor(name) for name in file.keys()}}
    metadata = file.metadata()  # "names": whose code; images are normalised by "mean" and "std"
print(metadata)
# model = that code's {network}(num_classes={classes}); model.load_state_dict(state, strict=True)
""",
    ),
}


def write(workdir, directory, student):
    """Write DIR/README.md for the files that are there.

    Args:
      workdir: the run's working directory.
      directory: the export's.
      student: a predict.Predictor.
    Raises:
      CheckpointError: the run's records are not what a run writes.
    """
    data_record = files.read_json(Path(workdir) / "dataset.json")
    path = Path(workdir) / "results.json"
    result = files.read_json(path) if path.exists() else {}
    try:
        parts = [
            _head(student, data_record, result),
            _accuracies(result),
            _limits(result),
            _files(Path(directory), student, data_record),
        ]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{workdir}: dataset.json or results.json is not what a run writes") from error
    with files.whole(Path(directory) / _CARD) as temporary:
        temporary.write_text("".join(parts), encoding="utf-8")


def clear(directory, student):
    """Remove what an earlier export wrote of other parameters, a run that went on since: one card is of all.

    Args:
      directory: the export's.
      student: a predict.Predictor, which is to be written there.
    """
    card, sha256 = Path(directory) / _CARD, checkpoint.params_sha256(student.variables)
    if card.exists() and sha256 not in card.read_text("utf-8", "replace"):
        stale = [Path(directory) / name for name in (*SNIPPETS, _CARD, "model.json", "onnx.json")]
        stale = [path for path in stale if path.exists()]
        for path in stale:
            path.unlink()
        names = ", ".join(path.name for path in stale)
        print(f"note: {directory}: of an earlier step of the run, removed: {names}", file=sys.stderr)


def _head(student, record, result):
    config, name = student.config, student.config.student.name
    height, width, _ = record["input_shape"]
    lines = {
        "Network": f"{name}, {record['num_classes']} classes, RGB images of {height}x{width} in [0, 1]",
        "Classes": _classes(student.classes),
        "Data": f"{record['name']}, {record['train_examples']} training images "
        f"(fingerprint {record['fingerprint'][:10]})",
        "Licence of the data": _LICENCES.get(record["name"], _OWN),
        "Method": _method(result, config, student.step),
        "Teacher": _teacher(result.get("teacher")),
        "Started from": _start(result.get("started_from")),
        "Trained on corruptions": ", ".join(result.get("trained_corruptions", ["not recorded"])) or "none",
        "Parameters' SHA-256": checkpoint.params_sha256(student.variables),
        "Code, date": f"craft_jax {result.get('commit') or '(commit not recorded)'}, "
        f"{result.get('date', 'not recorded')[:10]}",
    }
    return f"# {name}, trained on {record['name']} by {result.get('method', config.method)}\n\n" + "".join(
        f"- **{key}**: {value}\n" for key, value in lines.items() if value
    )


def _classes(names):
    told = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    return " ".join(errors.printable(told).split())


def _method(result, config, step):
    if result.get("method") == "import":  # its configuration is none that it was trained by
        return "weights of other code: how it was trained is not known here"
    return (
        f"{config.method}, seed {config.seed}, {config.epochs} epochs of {config.batch_size} images a step, "
        f"step {step}"
    )


def _teacher(record):
    if not record:
        return "none"
    accuracy = record.get("clean_accuracy")
    measured = "" if accuracy is None else f", {accuracy:.2f}% clean on {record['measured']['dataset']}"
    return f"{record['name']} by {record['method']}{measured} (SHA-256 {record['params_sha256'][:10]})"


def _start(record):
    return record and f"{record['name']} by {record['method']} on {record['dataset']} " + (
        f"(SHA-256 {record['params_sha256'][:10]})"
    )


def _accuracies(result):
    """The figures of the run's own evaluation."""
    if result.get("status") != "done":
        return "\n## Accuracy\n\nNot measured: the run has not finished.\n"
    rows = [
        f"| clean | {_percent(result['clean_accuracy'])} | | | | | |",
        f"| mean over corruptions | {_percent(result.get('robust_accuracy'))} | | | | | |",
    ]
    for name, cells in result.get("corruptions", {}).items():
        evaluated = [cell for cell in cells if cell is not None]
        mean = sum(evaluated) / len(evaluated) if evaluated else None
        rows.append(f"| {name} | {_percent(mean)} | " + " | ".join(map(_percent, cells)) + " |")
    split = result.get("evaluation_split", "test")
    frost = result.get("frost_pictures")
    return (
        f"\n## Accuracy, %\n\nOf the float network, on {result.get('clean_examples', 'the')} {split} images; "
        f"corruptions: {result.get('source', 'regenerated')}"
        + (f", frost {frost}" if frost else "")
        + ".\n\n| images | mean | severity 1 | 2 | 3 | 4 | 5 |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _percent(value):
    return "-" if value is None else f"{value:.2f}"


def _limits(result):
    lines = [
        "One training run: another seed gives other figures.",
        "It names one of its classes for every image, one of none of them too; its probabilities are not "
        "calibrated under shift.",
        "Robustness was measured on synthetic corruptions alone, at this image size: not on other cameras, "
        "places or times, and not against an adversary.",
        "Bias of the data is learned: nothing was measured by group of people or place.",
    ]
    if result.get("source") == "regenerated":
        lines.append("Corruptions are regenerated by this package; no published corrupted files were used.")
    return "\n## Limits\n\n" + "".join(f"- {line}\n" for line in lines)


def _files(directory, student, record):
    text = "\n## Files\n"
    described = {
        "shape": str((2, *record["input_shape"])),
        "network": student.config.student.name,
        "classes": record["num_classes"],
    }
    for file, (what, snippet) in SNIPPETS.items():
        if (directory / file).exists():
            text += f"\n`{file}`: {what}.\n\n```python\n{snippet.format(file=file, **described)}```\n"
    if (directory / "onnx.json").exists():
        text += _latency(files.read_json(directory / "onnx.json"))
    return text + "\nA table like the above of an ONNX file: `python -m craft_jax.evaluation --onnx=FILE`.\n"


def _latency(told):
    names = list(told["latency_ms"])
    rows = [
        f"| {size} | " + " | ".join(f"{told['latency_ms'][name][size]:.2f}" for name in names) + " |"
        for size in told["latency_ms"][names[0]]
    ]
    return (
        f"\nMilliseconds a batch on {told['device']} (median of up to ten calls):\n\n"
        f"| images | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n" + "\n".join(rows) + "\n"
    )
