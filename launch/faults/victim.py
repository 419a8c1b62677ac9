"""A training that kills itself with SIGKILL at a given moment: a process of kills.py.

    python launch/faults/victim.py '{"where": "save", "call": 1, "seconds": 0.02}' ARGUMENTS OF craft_jax.main

where  "step": `seconds` after the first step is computed
       "save", "evaluation": `seconds` after the call number `call` of it has begun
       "results": before ("before": true) or after the file number `call` of them takes its name
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from craft_jax import main
from craft_jax.evaluation import evaluate
from craft_jax.runs import checkpoint
from craft_jax.training import interrupt, train
from craft_jax.training.clock import Clock


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(seconds):
    timer = threading.Timer(seconds, die)
    timer.daemon = True
    timer.start()


def die_with_parent():
    """A chaos.py that was itself killed leaves nobody behind who writes where the next one does."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(0.2)
        die()

    threading.Thread(target=watch, daemon=True).start()


def kill_after_first_step(moment):
    compiled = Clock.compiled

    def watched(clock, step):
        compiled(clock, step)
        die_in(moment["seconds"])

    Clock.compiled = watched


def kill_within(holder, name, moment):
    """Replace a function by one whose call number `call` starts the clock."""
    calls, original = [], getattr(holder, name)

    def watched(*args, **kwargs):
        calls.append(None)
        if len(calls) == moment["call"]:
            die_in(moment["seconds"])
        return original(*args, **kwargs)

    setattr(holder, name, watched)


def kill_at_renaming(moment):
    """Once the evaluation is over: its files are results.npz, results.json, and that again with the cost."""
    calls, replace, over = [], os.replace, []
    evaluated = evaluate.evaluate

    def watched(source, target):
        calls.extend([None] * len(over))
        at = over and len(calls) == moment["call"]
        if at and moment["before"]:
            die()
        replace(source, target)
        if at:
            die()

    def noted(*args, **kwargs):
        found = evaluated(*args, **kwargs)
        over.append(None)
        return found

    os.replace, evaluate.evaluate = watched, noted


if __name__ == "__main__":
    interrupt.listen()
    die_with_parent()
    MOMENT = json.loads(sys.argv[1])
    if MOMENT["where"] == "step":
        kill_after_first_step(MOMENT)
    elif MOMENT["where"] == "save":
        kill_within(checkpoint.Checkpoints, "save", MOMENT)
    elif MOMENT["where"] == "evaluation":
        kill_within(train.evaluate, "evaluate", MOMENT)
    elif MOMENT["where"] == "results":
        kill_at_renaming(MOMENT)
    sys.exit(main.main(sys.argv[2:]))
