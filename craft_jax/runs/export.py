"""A trained student for other programs: `python -m craft_jax.export DIR` writes DIR/export/.

--formats says which of these, joined by commas; without it the first two:

safetensors   model.safetensors, the weights, with model.json and the run's records (`craft_jax.runs.weights`)
jax           model.jax_export, a function of images alone, weights included, that `jax.export.deserialize`
              runs without this package, on CPU and CUDA, at any batch size
torch         torch.safetensors, a state dict of the same network in PyTorch under the names of RepDistiller's
              and mdistiller's resnet.py, wrn.py and so on, for load_state_dict(..., strict=True); its images
              are to be normalised by the mean and std of the file's metadata and, of a ViT, which has
              Hugging Face's names, then to be enlarged to its side, bilinearly without antialiasing
onnx          model.onnx, (batch, H, W, 3) float32 in [0, 1] to logits (`craft_jax.runs.onnx_format`)
onnx_int8     model_int8.onnx beside it: quantised by onnxruntime, its ranges taken from training images

With either of the last two onnx.json has their latency on this machine's CPU, and JAX's. README.md is a model
card: data, teacher, method, accuracies, limits, and a few lines of code for each of the files.
"""

import argparse
import importlib.metadata
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from craft_jax import data, errors, files
from craft_jax.errors import CraftError, DataError
from craft_jax.models import latency, torch_names, vit
from craft_jax.runs import machine, model_card, onnx_format, predict, weights

PLATFORMS = ("cpu", "cuda")
FORMATS = ("safetensors", "jax", "torch", "onnx", "onnx_int8")
DEFAULT = ("safetensors", "jax")


def export(workdir, formats=DEFAULT, data_dir=""):
    """Write DIR/export/.

    Args:
      workdir: a run's working directory.
      formats: some of FORMATS.
      data_dir: where the run's training images lie now, for onnx_int8; "" for where they lay.
    Returns:
      The directory written.
    Raises:
      CheckpointError: no run there, or one without a checkpoint.
      CraftError: a package is not installed, or PyTorch or ONNX cannot express the network.
      DataError: onnx_int8, and the training images are not found, or are others.
    """
    weights.package()  # now, if it is missing
    if as_onnx := {"onnx", "onnx_int8"} & set(formats):
        onnx_format.package("jax2onnx")
    directory, student = Path(workdir) / "export", predict.load(workdir)
    # Before anything is written: they may not be there.
    images = _training_images(workdir, student.config, data_dir) if "onnx_int8" in formats else None
    files.check_writable(directory)
    model_card.clear(directory, student)
    if "torch" in formats:
        write_torch(student, directory)
    if "safetensors" in formats:
        _write_weights(student, workdir, directory)
    if "jax" in formats:
        artefact = serialize(student, files.read_json(Path(workdir) / "dataset.json")["input_shape"])
        with files.whole(directory / "model.jax_export") as temporary:
            temporary.write_bytes(artefact)
    if as_onnx:
        full = student if student.config.dtype == "float32" else predict.load(workdir, dtype="float32")
        write_onnx(full, files.read_json(Path(workdir) / "dataset.json")["input_shape"], directory, images)
    model_card.write(workdir, directory, student)
    return directory


def write_onnx(student, input_shape, directory, images=None):
    """Write DIR/model.onnx, with images to take ranges from DIR/model_int8.onnx too, and DIR/onnx.json.

    Args:
      student: a predict.Predictor that computes in float32.
      input_shape: (H, W, C).
      directory: where to.
      images: (N, H, W, 3) float32 in [0, 1], or None.
    Raises:
      CraftError: a package is not installed, or the network cannot be converted.
    """
    directory = Path(directory)
    onnx_format.write(student, input_shape, directory / onnx_format.FLOAT)
    jitted = jax.jit(lambda x: student.model.apply(student.variables, x, False)[0].logits)
    int8 = directory / onnx_format.INT8
    int8.unlink(missing_ok=True)  # of an earlier export: it need not be of this network
    runtimes = {"jax": jitted, onnx_format.FLOAT: onnx_format.Classifier(directory / onnx_format.FLOAT)}
    if images is not None:
        onnx_format.quantize(directory / onnx_format.FLOAT, int8, images)
        runtimes[onnx_format.INT8] = onnx_format.Classifier(int8)
    names = ("onnx", "onnxruntime", "jax2onnx")
    record = {
        "sha256_of": {name: onnx_format.sha256(directory / name) for name in runtimes if name != "jax"},
        "calibration_images": 0 if images is None else len(images),
        "latency_ms": {
            name: {
                str(size): latency.median_ms(lambda call=call, x=x: np.asarray(call(x)))
                for size in latency.BATCH_SIZES
                for x in [np.full((size, *input_shape), 0.5, np.float32)]
            }
            for name, call in runtimes.items()
        },
        "device": machine.processor(),
        "jax_device": jax.local_devices()[0].device_kind,
        "versions": {name: importlib.metadata.version(name) for name in names},
    }
    files.write_json(directory / "onnx.json", record)


def _training_images(workdir, config, data_dir):
    """Some of a run's training images, float32 in [0, 1], at random by a fixed seed."""
    config = config.copy_and_resolve_references()
    config.data.dir = data_dir or config.data.dir
    dataset = data.load(config)
    recorded = data.current(files.read_json(Path(workdir) / "dataset.json"))["fingerprint"]
    if dataset.fingerprint != recorded:
        raise DataError(f"--data_dir: the images of {dataset.name} there are not those the run trained on")
    count = min(onnx_format.CALIBRATION, len(dataset.train_images))
    rows = np.random.default_rng(0).choice(len(dataset.train_images), count, replace=False)
    return dataset.train_images[np.sort(rows)].astype(np.float32) / np.float32(255)


def write_torch(student, directory):
    """Write DIR/torch.safetensors.

    Args:
      student: a predict.Predictor.
      directory: where to.
    Raises:
      CraftError: PyTorch code that is known here has no such network.
    """
    network = student.config.student.name
    found = torch_names.conventions(network)
    if not found:
        raise CraftError(f"--formats=torch: no PyTorch code that is known here has a network {network!r}")
    tensors = {}
    for path, leaf in weights.leaves(student.variables).items():
        name = torch_names.name_of(found[0], path)
        tensors[name] = torch_names.to_torch(path, leaf)
        if path.endswith("/var"):  # a BatchNorm's third buffer
            tensors[name.replace("running_var", "num_batches_tracked")] = np.array(student.step, np.int64)
    told = {"network": network, "names": found[0].name, "mean": student.mean, "std": student.std}
    told["classes"] = json.dumps(student.classes)
    if network in vit.MODELS:
        width = student.variables["params"]["class_token"].shape[-1]
        mask = np.zeros((1, width), np.float32)  # not in use, but a strict load wants it
        tensors[found[0].prefix + torch_names.MASK_TOKEN] = mask
        side = vit.MODELS[network].keywords.get("side")
        told["side"] = side or f"the next multiple of {vit.PATCH}"
    metadata = {"format": "pt"} | {key: str(value) for key, value in told.items()}
    weights.write(Path(directory) / "torch.safetensors", tensors, metadata)


def write_weights(workdir, directory):
    """Write the weights alone, with the records that say what they are; returns the predict.Predictor.

    Args:
      workdir: a run's working directory.
      directory: where to.
    Raises:
      CheckpointError, CraftError: as `export`.
    """
    weights.package()  # now, if it is missing
    student = predict.load(workdir)
    _write_weights(student, workdir, directory)
    return student


def _write_weights(student, workdir, directory):
    data_record = files.read_json(Path(workdir) / "dataset.json")
    described = {
        "network": student.config.student.name,
        "input": ["batch", *data_record["input_shape"]],
        "input_range": [0.0, 1.0],
        "output": ["batch", data_record["num_classes"]],
        "classes": list(student.classes),
        "mean": list(student.mean),
        "std": list(student.std),
        "jax": jax.__version__,
        "platforms": PLATFORMS,
    }
    weights.save(workdir, directory, student.variables, student.step, described)


def serialize(student, input_shape):
    """The bytes of a jax.export artefact: (B, H, W, C) float32 in [0, 1] -> (B, K) float32 logits.

    Args:
      student: a predict.Predictor.
      input_shape: (H, W, C).
    """

    def logits(images):
        return student.model.apply(student.variables, images, False)[0].logits

    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *input_shape), jnp.float32)
    return bytes(jax_export.export(jax.jit(logits), platforms=PLATFORMS)(images).serialize())


@errors.command
def main(argv):
    """Export one run; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m craft_jax.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workdir", metavar="DIR", help="working directory of a run")
    parser.add_argument(
        "--formats", default=",".join(DEFAULT), metavar="F,F", help="of: " + ", ".join(FORMATS)
    )
    parser.add_argument(
        "--data_dir", default="", metavar="DIR", help="where the training images lie now, for onnx_int8"
    )
    options = parser.parse_args(argv)
    formats = options.formats.split(",")
    if unknown := [name for name in formats if name not in FORMATS]:
        parser.error(f"--formats: {', '.join(map(repr, unknown))} unknown; allowed: {', '.join(FORMATS)}")
    directory = export(options.workdir, formats, options.data_dir)
    print(f"written to {directory}")
    return 0
