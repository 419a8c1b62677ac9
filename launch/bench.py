"""How fast this codebase is, one benchmark a file of launch/benchmarks/.

    python launch/bench.py corruptions    # each corruption beside the CPU programs of the tests
    python launch/bench.py gpu            # the step as compiled for an H100 that is not there
    python launch/bench.py step           # the step over its floor: the networks alone
    python launch/bench.py loop           # the training loop over the bare step
    python launch/bench.py data           # images that stream beside images on the device
    python launch/bench.py evaluate       # an evaluation of 75 cells, cold and warm; --parts: its shares
    python launch/bench.py contrastive    # the contrastive loss in blocks beside all at once
    python launch/bench.py scale          # on paper: what more GPUs would bring, what tables would cost
    python launch/bench.py torch          # step and forward beside the same in PyTorch

`--help` after a name says what it measures, how, and what its options are.
"""

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from any directory, installed or not

BENCHMARKS = ("corruptions", "gpu", "step", "loop", "data", "evaluate", "contrastive", "scale", "torch")


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    name = parser.parse_args(argv[:1]).benchmark
    # Imported now and not above: `gpu` sets the environment that JAX reads when it is imported.
    importlib.import_module(f"launch.benchmarks.{name}").main(argv[1:])


if __name__ == "__main__":
    main()
