#!/usr/bin/env python3
"""Corrupted test images as files in CIFAR-10-C's layout, for other programs: those that evaluation makes.

NAME.npy         uint8 (5 N, H, W, 3): the first N test images at severity 1, then at severity 2, ...
labels.npy       uint8 (5 N,), the N labels five times over
regenerated.json what they were made from and by: they are regenerated, not the published CIFAR-10-C

  python launch/make_cifar_c.py --data cifar10 --data-dir DIR --out corrupted/cifar10
  python launch/make_cifar_c.py --data digits --names fog,snow --images 100 --out corrupted/digits

Rows are in the order of this package's test set, which for CIFAR is TFDS's and not the published one: pair
them with this labels.npy alone. Every draw is the one that `eval.source=regenerated` makes, and
`eval.source=cifar10_c` reads the same images from the files. All 19 corruptions of CIFAR-10-C take 2.9 GB.
"""

import argparse
import functools
import os
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from any directory, installed or not

import craft_jax
from craft_jax import corruptions, data, files
from craft_jax.data.shifted import NOTE
from craft_jax.errors import CraftError, DataError
from craft_jax.evaluation.images import corruption_keys

_WHAT = (
    "regenerated corruptions, not the published CIFAR-10-C or CIFAR-100-C: the algorithms are the "
    "original's, the random draws are not"
)


def make(dataset, out, names, count, batch_size=500, overwrite=False):
    """Write the first `count` test images under each corruption; a file is there whole or not at all.

    Args:
      dataset: a data.Dataset.
      out: the directory; made if it is not there.
      names: of corruptions.NAMES.
      count: N, 1 to the number of test images.
      batch_size: images a step.
      overwrite: write files anew that are there.
    Raises:
      DataError: all that is wrong with the arguments, or what `out` holds or has no room for.
    """
    out = Path(out)
    images, labels = dataset.test_images[:count], dataset.test_labels[:count]
    _check(dataset, names, count, batch_size)
    facts = {
        "what": _WHAT,
        "made_by": f"launch/make_cifar_c.py of craft_jax {craft_jax.__version__}",
        "data": data.record(dataset),
        "order": f"of {dataset.name}'s test images in craft_jax; for CIFAR TFDS's, not the published files'",
        "images": count,
    }
    made = _prepare_directory(out, names, facts, overwrite, 5 * images.nbytes)
    files.write_json(out / NOTE, facts | {"files": made})
    repeated = np.tile(labels, 5).astype(np.uint8 if dataset.num_classes <= 256 else np.int64)
    _write(out / "labels.npy", repeated.shape, repeated.dtype, lambda array: np.copyto(array, repeated))
    with tqdm(total=5 * count * len(names), unit="image", mininterval=0.5, disable=None) as progress:
        for name in names:
            progress.set_description(name)
            fill = functools.partial(_fill, images, name, batch_size, progress)
            _write(out / f"{name}.npy", (5 * count, *images.shape[1:]), np.uint8, fill)
            made[f"{name}.npy"] = {"frost_pictures": corruptions.frost_source()} if name == "frost" else {}
            files.write_json(out / NOTE, facts | {"files": made})


def _check(dataset, names, count, batch_size):
    faults = []
    unknown = [name for name in names if name not in corruptions.NAMES]
    if unknown or not names or len(set(names)) < len(names):
        faults.append(f"--names {','.join(names)}: allowed: each once of {', '.join(corruptions.NAMES)}")
    if not 1 <= count <= len(dataset.test_labels):
        faults.append(f"--images {count}: allowed: 1 to {len(dataset.test_labels)}, the test images")
    if batch_size < 1:
        faults.append(f"--batch {batch_size}: allowed: at least 1")
    side = min(dataset.test_images.shape[1:3])
    if side < corruptions.LEAST_SIDE:
        faults.append(
            f"--data {dataset.name}: images of {side} px; allowed: {corruptions.LEAST_SIDE} or more"
        )
    if faults:
        raise DataError("\n".join(faults))


def _prepare_directory(out, names, facts, overwrite, bytes_each):
    """Make `out`, without the files to be made; returns what its note says of those that stay.

    Raises:
      DataError: the files would replace others, or lie beside others that were not made from the same.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {out}: cannot be made: {error}") from error
    there = {path.name for path in out.glob("*.npy")}
    again = sorted(there & {f"{name}.npy" for name in names})
    if again and not overwrite:
        raise DataError(f"--out {out}: holds {', '.join(again)}; --overwrite makes them anew")
    stay = sorted(there - set(again) - {"labels.npy"})
    note = files.read_json(out / NOTE) if (out / NOTE).exists() else {}
    made = note.get("files", {}) if isinstance(note, dict) else {}
    alike = isinstance(note, dict) and {key: note.get(key) for key in facts} == facts
    if not alike or set(stay) - made.keys():
        if stay or (there and not overwrite):
            raise DataError(
                f"--out {out}: holds {', '.join(stay or there)}, which {NOTE} does not give as made by this "
                "version from these images; give another directory"
            )
        note = {}
    free = shutil.disk_usage(out).free
    if bytes_each * len(names) > free:
        raise DataError(f"--out {out}: {bytes_each * len(names) / 1e9:.2f} GB do not fit {free / 1e9:.2f} GB")
    for file in again:  # or a run cut off would leave old images beside new labels
        (out / file).unlink()
    return {file: how for file, how in note.get("files", {}).items() if file in stay}


def _write(path, shape, dtype, fill):
    """A .npy file by `fill(array)`, memory-mapped, beside `path` and then renamed to it."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        fill(array)
        array.flush()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _fill(images, name, batch_size, progress, array):
    count = len(images)
    for severity in corruptions.SEVERITIES:
        group = corruptions.program(name, images.shape[1:], severity)
        for start in range(0, count, batch_size):
            index = np.minimum(np.arange(start, start + batch_size), count - 1)
            made = _corrupt(images[index], index, name, group, np.int32(severity))
            made = np.asarray(made)[: count - start]
            first = (severity - 1) * count + start
            array[first : first + len(made)] = made
            progress.update(len(made))


@functools.partial(jax.jit, static_argnames=("name", "group"))
def _corrupt(images, index, name, group, severity):
    keys = corruption_keys(name, severity, index)
    made = corruptions.corrupt_each(keys, images.astype(jnp.float32) / 255.0, name, group, severity)
    return jnp.round(made * 255).astype(jnp.uint8)


def main(argv=None):
    """Make the files; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, choices=data.NAMES)
    parser.add_argument("--data-dir", default="", metavar="DIR", help="as config.data.dir")
    parser.add_argument("--size", type=int, default=0, metavar="S", help="as config.data.size")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument(
        "--names",
        default=",".join(corruptions.CIFAR10_C),
        help="default: CIFAR-10-C's 19; or CIFAR-10-C-bar's",
    )
    parser.add_argument("--images", type=int, metavar="N", help="the first N test images; default: all")
    parser.add_argument("--batch", type=int, default=500, metavar="B", help="images a step; default: 500")
    parser.add_argument("--overwrite", action="store_true", help="write files anew that are there")
    options = parser.parse_args(argv)
    try:
        settings = {"name": options.data, "dir": options.data_dir, "size": options.size}
        settings |= {"validation": 0, "max_train": 0, "cue": "none", "streaming": "never", "memory_gb": 0.0}
        dataset = data.load(ConfigDict({"data": settings}))
        count = len(dataset.test_labels) if options.images is None else options.images
        names = tuple(options.names.split(","))
        make(dataset, options.out, names, count, options.batch, options.overwrite)
    except (CraftError, OSError) as error:
        print(f"make_cifar_c: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("make_cifar_c: interrupted; finished files stay, --names makes the others", file=sys.stderr)
        return 130
    print(f"written to {options.out}; how they were made is in {Path(options.out) / NOTE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
