"""Weights of other code as a teacher: `python -m craft_jax.import_weights FILE --network=NAME ... --out=DIR`.

FILE is a safetensors file with the names of RepDistiller's or mdistiller's networks, of torchvision's
ResNets, of Hugging Face's DINOv2, or of this package's own export. From a PyTorch checkpoint, where torch is:

  import torch, safetensors.torch
  state = torch.load("net.pth", map_location="cpu", weights_only=True)["model"]
  safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, "net.safetensors")

Every tensor must find its place and every variable its tensor, num_batches_tracked (and DINOv2's mask token)
aside. A DINOv2 without a classifier gets one: a linear probe of its features of the training images. DIR
then serves as a run's: for `--config.teacher.checkpoint=DIR`, `craft_jax.load(DIR)`, `--mode=eval`. Its
results.json has the accuracy on the data's clean test images, a check of network and normalisation.

overrides
  --config.KEY=VALUE, e.g. --config.data.dir=DIR, --config.eval.max_examples=1000, --config.data.size=16.

exit status
  0   done
  2   something to put right: the message says what
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

from craft_jax import data, errors, files, models
from craft_jax.config import command, reader, rules, tree
from craft_jax.errors import CheckpointError, ConfigError
from craft_jax.evaluation import correctness, evaluate, probe, targets
from craft_jax.mesh import make_mesh, replicated_on
from craft_jax.models import vit
from craft_jax.models.flops import flops
from craft_jax.runs import canary, checkpoint, foreign, results, weights

METHOD = "import"  # how its result says that it was trained: not here
_UNKNOWN = "imported: how, and on which images and corruptions, it was trained is not known here"


@errors.command
def main(argv):
    """Import one file; returns the exit status."""
    options, overrides = _parse(argv)
    config = _config(options, overrides)
    tensors = foreign.header(options.file)
    if not options.dry_run:
        files.check_writable(Path(options.out).absolute().parent)  # now: the rest may take minutes
    canary.check()
    dataset = data.load(config)
    model = _build(config, dataset, options)
    abstract = _abstract(model, dataset)
    found = foreign.mapping(options.file, options.network, tensors, abstract)
    print(errors.printable(_told(options, found, tensors)))
    if options.dry_run:
        return 0
    variables, notes = foreign.read(options.file, found), [_UNKNOWN]
    if found.absent:
        print(f"fitting a linear classifier to {len(dataset.train_labels)} training images", flush=True)
        variables, more = probe.with_head(model, variables, dataset, config.eval.batch_size)
        print("".join(f"{note}\n" for note in more), end="")
        notes += more
    result = _write(config, dataset, model, variables, options, notes)
    print(
        f"{result['clean_accuracy']:.2f}% of {result['clean_examples']} test images; written to {options.out}"
    )
    return 0


def _parse(argv):
    parser = errors.Parser(
        prog="python -m craft_jax.import_weights",
        description=__doc__,
    )
    parser.add_argument("file", metavar="FILE", help="a safetensors file")
    parser.add_argument("--network", metavar="NAME", required=True, help="see python -m craft_jax.models")
    parser.add_argument("--data", metavar="NAME", required=True, help=f"one of: {', '.join(data.NAMES)}")
    parser.add_argument("--out", metavar="DIR", required=True, help="a directory that is not there yet")
    parser.add_argument(
        "--mean",
        type=command.three_numbers,
        metavar="R,G,B",
        help="of the images that the network knows; default: the data's, of DINOv2 ImageNet's",
    )
    parser.add_argument("--std", type=command.three_numbers, metavar="R,G,B", help="likewise")
    parser.add_argument("--config", default="configs/erm.py", metavar="FILE", help="default: configs/erm.py")
    parser.add_argument("--dry_run", action="store_true", help="print which tensor goes where, and stop")
    options, rest = parser.parse_known_args(argv)
    overrides, faults = command.overrides_of(rest)
    if options.data not in data.REGISTRY:
        faults.append(f"--data: {options.data!r} is unknown; allowed: {', '.join(data.NAMES)}")
    if options.std and min(options.std) <= 0:
        faults.append(f"--std: {options.std}; allowed: numbers above 0")
    if os.path.lexists(options.out):
        faults.append(f"--out: {options.out} is there already; allowed: a new directory")
    if faults:
        raise ConfigError("\n".join(faults))
    return options, overrides


def _config(options, overrides):
    """The configuration that the imported network's records have: ERM's, of this network and data."""
    config = reader.load(options.config, overrides)
    if options.network not in models.REGISTRY:  # not before: the file may register one
        raise ConfigError(f"--network: {options.network!r} is unknown; allowed: {', '.join(models.REGISTRY)}")
    config.method, config.student.name, config.data.name = "erm", options.network, options.data
    config.data.flip = config.data.flip and options.data != "digits"
    rules.validate(config)
    if config.data.validation:
        raise ConfigError(
            f"config.data.validation: {config.data.validation}; allowed: 0 (what images the network has seen "
            "is not known, so none count as held out)"
        )
    if config.eval.adaptation != "none":
        raise ConfigError(
            f"config.eval.adaptation: {config.eval.adaptation!r}; allowed: 'none' (the network is measured "
            "as it is; --mode=eval adapts it)"
        )
    return config


def _build(config, dataset, options):
    mean, std = _normalisation(dataset, options)
    return models.build(
        options.network,
        dataset.num_classes,
        dtype=config.dtype,
        mean=mean,
        std=std,
        precision=config.precision,
    )


def _normalisation(dataset, options):
    """(mean, std), three numbers each."""
    own = (vit.MEAN, vit.STD) if options.network in vit.MODELS else (dataset.mean, dataset.std)
    return options.mean or own[0], options.std or own[1]


def _abstract(model, dataset):
    """The network's variables, of shapes."""
    shape = (1, *dataset.train_images.shape[1:])
    return jax.eval_shape(lambda: model.init(jax.random.key(0), shape))


def _told(options, found, tensors):
    """The mapping in words; with --dry_run each of its rows."""
    lines = [
        f"{options.file}: {len(found.names)} tensors of a {options.network}, named as by {found.convention}"
    ]
    if options.dry_run:
        lines += [
            f"  {name} {tensors[name].dtype}{tensors[name].shape} -> {path}"
            for path, name in found.names.items()
        ]
        lines += [f"  {name[:200]!r} is skipped" for name in found.skipped]
        lines += [f"  a linear probe -> {path}" for path in found.absent]
    return "\n".join(lines)


def _write(config, dataset, model, variables, options, notes):
    """Measure the network on the clean test images and write the directory, whole or not at all."""
    out = Path(options.out).absolute()
    measured, correct = _measure(config, dataset, model, variables)
    mean, std = _normalisation(dataset, options)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        weights.write(temporary / weights.FILE, weights.leaves(variables))
        described = {
            "network": options.network,
            "input": ["batch", *map(int, dataset.train_images.shape[1:])],
            "input_range": [0.0, 1.0],
            "output": ["batch", dataset.num_classes],
            "mean": list(mean),
            "std": list(std),
            "imported_from": str(Path(options.file).absolute()),
        }
        weights.describe(temporary, variables, 0, described)
        files.write_json(temporary / "dataset.json", data.record(dataset))
        files.write_json(temporary / "config.json", tree.to_json(config))
        correctness.write(temporary / "results.npz", correct)
        result = results.write(config, temporary, dataset, None, measured | {"notes": notes})
        temporary.chmod(0o755)  # mkdtemp's is its owner's alone
        temporary.rename(out)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return result


def _measure(config, dataset, model, variables):
    """(result, which images are right) on clean test images: a student's evaluation measures the rest."""
    clean = config.copy_and_resolve_references()
    with clean.unlocked():
        clean.eval.corruptions = ()
    mesh = make_mesh()
    network = (evaluate.predictor(model, mesh), jax.device_put(variables, replicated_on(mesh)))
    measured, correct = evaluate.evaluate(network, dataset, clean, mesh, targets.prepare(clean, dataset))
    image = jax.ShapeDtypeStruct((1, *dataset.train_images.shape[1:]), jnp.float32)
    del measured["trained_corruptions"]  # not known, where [] would say that there were none
    counted = flops(lambda v, x: model.apply(v, x, False)[0].logits, variables, image)
    return {
        "status": "done",
        "method": METHOD,
        "seed": None,
        **measured,
        "step": 0,
        "params_sha256": checkpoint.params_sha256(variables),
        "cost": {"parameters": models.count_parameters(variables["params"]), "flops": counted},
    }, correct


if __name__ == "__main__":
    sys.exit(main())
