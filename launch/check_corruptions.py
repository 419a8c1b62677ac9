"""Repeats the tests' comparisons of the corruptions on CIFAR-10's test images, and prints the figures.

    python launch/check_corruptions.py [--data-dir=DIR] [--images=200] [--names=fog,snow] [--severities=12345]

Two Markdown tables, ours beside plain programs with NumPy, SciPy and Pillow (tests/references.py):

1. Equal draws in both, or none: the share of equal values and the largest difference in grey levels.
   All but noise, whose draws depend on the image.
2. Own draws in each: statistics of the change that a corruption makes (see tests/statistics.py),
   ours / theirs (difference in standard errors), for all that draw. Four draws an image.

Exit status 1 if a limit is broken: LEAST and MOST here, and 5 standard errors. Minutes on 2 cores.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from any directory, installed or not

import jax
import numpy as np

from craft_jax import corruptions
from craft_jax.data import tfds
from craft_jax.errors import DataError
from tests.corruptions.given import REFERENCES, SAMPLED, both
from tests.corruptions.references import nothing
from tests.corruptions.statistics import FIGURES, agreement, compare

RUNS = 4
ERRORS = 5
# Share of equal values at least, largest difference at most. The formulas in float32 truncate to the
# level beside; those of HSV most, since half their results are whole in exact arithmetic.
EXACT = ("pixelate", "jpeg_compression", "motion_blur")
LEAST = dict.fromkeys(EXACT, 1.0) | {
    "glass_blur": 0.9999,
    "brightness": 0.95,
    "saturate": 0.95,
    "frost": 0.99,
    "transverse_chromatic_abberation": 0.98,  # one sum of a channel in 36 is halfway between levels
}
# A level of a drop that differs may move an edge of spatter, a last digit that of what is cut out or drawn;
# snow adds two layers.
EDGED = ("spatter", "blue_noise_sample", "checkerboard_cutout", "lines")
MOST = dict.fromkeys(EXACT, 0) | dict.fromkeys(EDGED, 255) | {"snow": 2}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", default="", help="where TFDS keeps CIFAR-10; its own default")
    parser.add_argument("--images", type=int, default=200, help="test images, from the first")
    parser.add_argument("--names", default=",".join(corruptions.CIFAR10_C), help="which, with commas between")
    parser.add_argument("--severities", default="12345", help="which, as digits")
    arguments = parser.parse_args(argv)
    names, severities = arguments.names.split(","), [int(s) for s in arguments.severities if s in "12345"]
    if unknown := set(names) - set(corruptions.NAMES):
        parser.error(f"unknown corruption {', '.join(sorted(unknown))}; of: {', '.join(corruptions.NAMES)}")
    if arguments.images < 2 or not severities:
        parser.error("--images must be at least 2, --severities digits of 1 to 5")
    try:
        images = tfds.load("cifar10", arguments.data_dir).test_images[: arguments.images]
    except DataError as error:
        parser.error(str(error))
    sys.exit(check(images, names, severities))


def check(images, names, severities):
    """Prints both tables; how many limits are broken, at most 1."""
    print(f"CIFAR-10, {len(images)} test images; frost: {corruptions.frost_source()}\n")
    broken = equal_draws(images, [n for n in names if n not in SAMPLED], severities)
    broken += own_draws(images, [n for n in names if REFERENCES[n].draw is not nothing], severities)
    print(f"\nBeyond a limit: {', '.join(broken) if broken else 'none'}.")
    return int(bool(broken))


def equal_draws(images, names, severities):
    print("| equal draws | severity | equal values, % | largest difference |\n|---|---:|---:|---:|")
    broken = []
    for name in names:
        for severity in severities:
            same, largest = agreement(*both(name, images, severity, np.random.default_rng(severity)))
            print(f"| {name} | {severity} | {100 * same:.3f} | {largest} |", flush=True)
            if same < LEAST.get(name, 0.997) or largest > MOST.get(name, 1):
                broken.append(f"{name} {severity} (equal draws)")
    return broken


def own_draws(images, names, severities):
    print(f"\n| own draws | severity | {' | '.join(FIGURES)} |\n|---|---:|{'---:|' * len(FIGURES)}")
    broken = []
    for name in names:
        for severity in severities:
            figures = compare(images, ours(images, name, severity), theirs(images, name, severity))
            cells = [f"{a:.3f} / {b:.3f} ({z:+.1f})" for a, b, z in figures.values()]
            print(f"| {name} | {severity} | {' | '.join(cells)} |", flush=True)
            far = [figure for figure, (_, _, z) in figures.items() if abs(z) > ERRORS]
            broken += [f"{name} {severity} ({figure})" for figure in far]
    return broken


def ours(images, name, severity):
    keys = jax.random.split(jax.random.key(severity), RUNS)
    pixels = np.float32(images) / np.float32(255)
    return np.stack([np.rint(255 * corruptions.corrupt(key, pixels, name, severity)) for key in keys])


def theirs(images, name, severity):
    random, reference = np.random.default_rng(severity), REFERENCES[name]

    def one(image):
        return reference.apply(image, severity, *reference.draw(random, severity, image.shape))

    return np.stack([[one(image) for image in images] for _ in range(RUNS)])


if __name__ == "__main__":
    main()
