"""Do runs survive? What is killed must go on to the same end, what is damaged be noticed: both are counted.

    python launch/chaos.py --config=configs/craft.py:smoke --n=50 --seed=0    # SIGKILL at 50 moments
    python launch/chaos.py flips --n=1000                                     # damage to 1,000 files
    python launch/chaos.py disk --config=configs/craft.py:smoke --n=20        # disks that are full
    python launch/chaos.py soak --config=configs/craft.py:smoke               # 10,000 steps: what grows?

`--help` after `kills` (the default), `flips`, `disk` or `soak` says what is done, how, with what options.
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from any directory, installed or not

FAULTS = ("kills", "flips", "disk", "soak")


def main(argv=None):
    """Returns the exit status: 0 if all was survived, 1 if not, 2 for something to put right."""
    argv = sys.argv[1:] if argv is None else argv
    if argv in ([], ["--help"], ["-h"]):
        print(__doc__)
        return 0
    name, rest = (argv[0], argv[1:]) if argv[0] in FAULTS else ("kills", argv)
    return importlib.import_module(f"launch.faults.{name}").main(rest)


if __name__ == "__main__":
    sys.exit(main())
