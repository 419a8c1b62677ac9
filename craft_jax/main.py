"""Train and evaluate a student: `python -m craft_jax.main --config=configs/craft.py[:preset]`."""

import os
import signal
import sys
from pathlib import Path

from craft_jax.config import command
from craft_jax.errors import CraftError, TrainingStopped
from craft_jax.evaluation.evaluate import evaluate_workdir
from craft_jax.report import summary
from craft_jax.runs import canary
from craft_jax.training.train import train_and_evaluate

_INTERRUPTED = "craft_jax: interrupted; the same command goes on from the last checkpoint"


def main(argv=None):
    """Run one command; returns the exit status: 0, 2 for what the user can put right, 3 for a stopped run."""
    try:
        options = command.parse(sys.argv[1:] if argv is None else argv)
        canary.check()
        if options.mode == "train":
            result = train_and_evaluate(options.config, options.workdir)
            written = Path(options.workdir) / "results.json"
        else:
            result, written = evaluate_workdir(options.config, options.workdir)
    except TrainingStopped as error:
        print(f"craft_jax: {error}", file=sys.stderr)
        return 3
    except CraftError as error:
        print(f"craft_jax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(_INTERRUPTED, file=sys.stderr)
        return 130
    print(summary.text(result))
    print(f"results are in {written}")
    return 0


def _leave(*_):
    """On Ctrl-C: XLA, while compiling, swallows a KeyboardInterrupt or crashes. What is on disk is whole."""
    print(f"\n{_INTERRUPTED}", file=sys.stderr, flush=True)
    os._exit(130)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _leave)
    sys.exit(main())
