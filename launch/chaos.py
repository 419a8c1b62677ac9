"""Do runs survive? What is killed must go on to the same end, what is damaged be noticed: both are counted.

    python launch/chaos.py --config=configs/craft.py:smoke --n=50 --seed=0    # SIGKILL at 50 moments
    python launch/chaos.py flips --n=1000                                     # damage to 1,000 files

`--help` after `kills` (the default) or `flips` says what is done, how, and what its options are.
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from any directory, installed or not

FAULTS = ("kills", "flips")


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
