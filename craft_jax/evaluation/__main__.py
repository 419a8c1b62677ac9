"""Evaluate finished runs or an ONNX file: `python -m craft_jax.evaluation DIR...`, or `--onnx=FILE`.

Several runs on the same images are evaluated in one pass: what all are shown is corrupted once. Each gets its
DIR/eval/NAME.json, with the figures that `craft_jax.main --mode=eval` gives of it.

An ONNX classifier need not be trained here. Its first output are the logits; its one input are float32
images, (B, H, W, 3) or (B, 3, H, W), told by the file's own shape. They come in [0, 1]; one that does not
normalise by itself wants --mean and --std. The images are those of --data, a data set's name, an .npz file or
a folder of pictures, these at the file's own size unless data.size is given, under the eval.* keys of
--config; corrupted images are the same as every run's, so figures stand beside each other. It runs on the
CPU, by onnxruntime (requirements-onnx.txt).

  python -m craft_jax.evaluation runs/kd/seed* --eval_name=c_bar --config.eval.corruptions=ripple,sparkles
  python -m craft_jax.evaluation --onnx=DIR/export/model.onnx --config=configs/erm.py:cifar10_16
  python -m craft_jax.evaluation --onnx=DIR/export/model_int8.onnx --data=pictures
  python -m craft_jax.evaluation --onnx=theirs.onnx --data=cifar10 --mean=0.49,0.48,0.45 --std=0.25,0.24,0.26

overrides
  --config.KEY=VALUE, e.g. --config.data.dir=DIR, --config.eval.max_examples=1000.

exit status
  0   done
  2   something to put right: the message says what
"""

import datetime
import sys
from pathlib import Path

from craft_jax import data, errors, files, streams
from craft_jax.config import command, reader, rules, tree
from craft_jax.errors import ConfigError
from craft_jax.evaluation import evaluate, targets, workdirs
from craft_jax.mesh import make_mesh
from craft_jax.report import summary
from craft_jax.runs import canary, compilation_cache, onnx_format

_CONFIG = "configs/erm.py"


@errors.command
def main(argv: list[str]) -> int:
    """Evaluate runs or one file; returns the exit status."""
    options, overrides = _parse(argv)
    if options.runs:
        return _evaluate_runs(options, overrides)
    network = onnx_format.Classifier(options.onnx, options.mean, options.std)
    config = _config(options, overrides, network)
    canary.check()  # corruptions are made by JAX
    dataset = data.load(config)
    network.check(dataset.train_images.shape[1:], dataset.num_classes, dataset.classes)
    result = _measure(network, dataset, config, options)
    print(errors.printable(summary.text(result)))
    if options.out:
        files.write_json(options.out, result)
        print(f"results are in {options.out}")
    return 0


def _evaluate_runs(options, overrides):
    words = [f"--config.{key}={value}" for key, value in overrides]
    words += [f"--eval_name={options.eval_name}"] if options.eval_name else []
    configs = [command.parse(["--mode=eval", f"--workdir={run}", *words]).config for run in options.runs]
    if configs[0].compilation_cache:
        compilation_cache.use()
    canary.check()
    for result, path in workdirs.evaluate_workdirs(configs, options.runs, options.eval_name):
        clean, robust = (result[f"{kind}_accuracy"] for kind in ("clean", "robust"))
        print(errors.printable(f"clean {clean:.2f}%, robust {robust:.2f}%: {path}"))
    return 0


def _parse(argv):
    parser = errors.Parser(prog="python -m craft_jax.evaluation", description=__doc__)
    parser.add_argument("runs", metavar="DIR", nargs="*", help="working directories of finished runs")
    parser.add_argument("--eval_name", metavar="NAME", default="", help="of runs: as craft_jax.main's")
    parser.add_argument("--onnx", metavar="FILE", default="", help="the classifier")
    parser.add_argument(
        "--data", metavar="NAME", default="", help=f"{', '.join(data.NAMES)}, an .npz file or a folder"
    )
    parser.add_argument(
        "--config",
        metavar="FILE[:PRESET]",
        default="",
        help=f"with --onnx; default: {_CONFIG}",
    )
    parser.add_argument(
        "--mean", type=command.three_numbers, metavar="R,G,B", help="default: none is taken off"
    )
    parser.add_argument(
        "--std", type=command.three_numbers, metavar="R,G,B", help="default: none is divided by"
    )
    parser.add_argument(
        "--out", metavar="FILE.json", default="", help="write the result, for craft_jax.report"
    )
    options, rest = parser.parse_known_intermixed_args(argv)
    overrides, faults = command.overrides_of(rest)
    if bool(options.runs) == bool(options.onnx):
        faults.append("allowed: either directories of finished runs, or --onnx=FILE")
    if options.runs:
        only = ("config", "data", "mean", "std", "out")
        faults += [f"--{name}: allowed with --onnx alone" for name in only if getattr(options, name)]
    elif options.eval_name:
        faults.append("--eval_name: allowed with directories of runs alone; --out names the file")
    name, directory = _where(options.data)
    if name not in ("", *data.NAMES):
        allowed = f"{', '.join(data.NAMES)}, an .npz file or a folder of pictures"
        faults.append(f"--data: {options.data!r} is unknown; allowed: {allowed}")
    if options.std and min(options.std) <= 0:
        faults.append(f"--std: {options.std}; allowed: numbers above 0")
    if options.out and (
        Path(options.out).suffix != ".json" or not Path(options.out).absolute().parent.is_dir()
    ):
        faults.append(f"--out: {options.out}; allowed: FILE.json in a directory that is there")
    if faults:
        raise ConfigError("\n".join(faults))
    given = [("data.name", name), ("data.dir", directory)]
    return options, [*((key, value) for key, value in given if value), *overrides]


def _where(told):
    """--data as (data.name, data.dir): either may be empty."""
    if told in data.NAMES:
        return told, ""
    if told.endswith(".npz"):
        return "npz", told
    return ("folder", told) if told and Path(told).is_dir() else (told, "")


def _config(options, overrides, network):
    config = reader.load(options.config or _CONFIG, overrides, training=False)
    if config.data.name == "folder" and not config.data.size and network.sides[0] == network.sides[1]:
        config.data.size = network.sides[0] or 0
    rules.validate(config)
    if config.eval.adaptation != "none":
        raise ConfigError(
            f"config.eval.adaptation: {config.eval.adaptation!r}; allowed: 'none' (a file does not adapt)"
        )
    return config


def _measure(network, dataset, config, options):
    """The result, as of `evaluate.evaluate`, and which file it is of."""

    def predict(_, images):
        return network(images)

    wanted = targets.prepare(config, dataset)
    result, _ = evaluate.evaluate((predict, ()), dataset, config, make_mesh(), wanted)
    del result["trained_corruptions"]  # not known, where [] would say that there were none
    stored = tree.to_json(config)
    stored["student"]["name"] = Path(options.onnx).name
    return {
        "status": "done",
        "method": "onnx",
        "dataset": dataset.name,
        "seed": None,
        "draws": streams.DRAWS,
        **result,
        "teacher": None,
        "onnx": {
            "file": str(Path(options.onnx).absolute()),
            "sha256": onnx_format.sha256(options.onnx),
            "layout": network.layout,
            "mean": options.mean,
            "std": options.std,
            "onnxruntime": onnx_format.package("onnxruntime").__version__,
        },
        "config": stored,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "notes": ["an ONNX file: how, and on which images and corruptions, it was trained is not known here"],
    }


if __name__ == "__main__":
    sys.exit(main())
