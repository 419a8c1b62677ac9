"""Run a study, or go on with it: `python -m craft_jax.study configs/studies/NAME.py[:PRESET] --out=DIR`.

The file's `get_study(preset)` names arms, seeds and planned comparisons (`craft_jax.study`). Each run is one
`python -m craft_jax.main`, in DIR/ARM/seedN with its output in log.txt there; teachers go to DIR/teachers.
What is done is skipped, what was killed goes on where it was saved; a run that fails stops no other. All arms
of one seed come before the next seed. Then: python -m craft_jax.report DIR --out=OUT

cluster
  --cluster=slurm submits the runs as jobs, through submitit (requirements-cluster.txt), and returns; the same
  command tells which are queued, running and done, and submits what has neither a result nor a job. A teacher
  is trained by one job, and the runs that share it begin after that. A job at its time limit, or preempted
  with a grace time, saves its run and queues itself again. What it says is in DIR/.cluster.
  --cluster=local tries that out on this machine: all at once, and it waits.

overrides
  --config.KEY=VALUE sets a key for all arms, e.g. --config.data.dir=DIR.

exit status
  0   every run is done
  1   some failed; the others are done
  2   something to put right: the message says what
  75  stopped by SIGTERM, SIGINT or --minutes, or in a cluster's queue; the same command goes on
"""

import argparse
import shlex
import sys
from pathlib import Path

import jax

from craft_jax import errors, files
from craft_jax.config import command
from craft_jax.errors import ConfigError
from craft_jax.runs import weights
from craft_jax.study import cluster, plan, progress, runner, store


@errors.command
def main(argv):
    """Run a study; returns the exit status."""
    jax.config.update("jax_platforms", "cpu")  # a GPU's memory is for the runs
    options, everywhere = _parse(argv)
    study, name, question = plan.read(options.study)
    runs = plan.runs(study, options.out, everywhere)
    if options.results:
        weights.package()  # teachers are kept by it: now, if it is missing
    if options.cluster:
        cluster.check(options.cluster)
    if options.dry_run:
        kept = _look(study, name, question, options, runs, everywhere)
        print(_described(kept, options.jobs))
        return 0
    with files.lock(Path(options.out) / ".lock", wait=False):
        kept = _look(study, name, question, options, runs, everywhere)
        kept.keep_done()
        kept.write_manifests()
        if options.cluster:
            return cluster.submit(kept, options, everywhere)
        return runner.Runner(kept, options.jobs, options.minutes).run()


def _look(study, name, question, options, runs, everywhere):
    """Where the study stands: a Store, which knows of jobs too."""
    jobs = cluster.under_way(Path(options.out)) if options.cluster == "slurm" else {}
    kept = store.Store(study, name, question, options, runs, everywhere)
    for run, state in kept.states.items():
        if state == progress.WAITING:
            kept.states[run] = jobs.get(run.name, state)
    return kept


def _parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m craft_jax.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("study", metavar="FILE[:PRESET]", help="a study file and its presets")
    parser.add_argument("--out", metavar="DIR", required=True, help="where the runs live")
    parser.add_argument("--results", metavar="FOLDER", help="keep each result, and the teachers, here too")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many runs at once (default: 1)")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop cleanly after so many minutes")
    parser.add_argument("--dry_run", action="store_true", help="print runs, commands and the estimate only")
    cluster.add_arguments(parser)
    options, rest = parser.parse_known_args(argv)
    everywhere, faults = command.overrides_of(rest)
    if options.jobs < 1:
        faults.append(f"--jobs: {options.jobs}; allowed: at least 1")
    if options.minutes is not None and not options.minutes > 0:
        faults.append(f"--minutes: {options.minutes}; allowed: above 0")
    faults += cluster.faults(options)
    if faults:
        raise ConfigError("\n".join(faults))
    return options, everywhere


def _described(kept, jobs):
    """Every run with its command, the state it is in, and how long the rest will take."""
    lines = []
    for run, state in kept.states.items():
        lines.append(f"{run.name}: {'to do' if state == progress.WAITING else state}")
        lines.append("  " + shlex.join(run.command(kept.more(run))))
    pace = progress.learned(kept.states, kept.results)
    lines += [
        progress.table(kept.states, {}),
        progress.counts(kept.states, pace.seconds(kept.states, {}), jobs),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
