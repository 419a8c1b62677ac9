"""The runs of a study as jobs of SLURM, `--cluster=slurm`: arrays of one run a task, through submitit.

The command submits what is neither done nor under way, shows where each run stands and returns; given again,
it does the same. A run that is queued or running is not submitted twice; were it so after all (the command
was killed between sbatch and its note), the second job waits for the first one's lock on the run's directory,
and finds it done. Of runs that ask for one teacher the first trains it; the others are an array of their own,
which begins when the first one's job has ended.

What is promised on preemption: 90 s before its time limit, and where it is preempted with a grace time
(SLURM's GraceTime), a job gets a signal. The run saves the step under way, and the job queues itself again:
so a run may take longer than the limit, up to a hundred times. Without a grace time SLURM kills the job,
and queues it again by itself (PreemptMode=REQUEUE): the steps since the last checkpoint are lost. A job
that failed, was cancelled (scancel) or preempted by cancelling ends; the next command submits its run
again, which goes on.

DIR/.cluster/jobs.json          which job each run is
DIR/.cluster/JOB_0_log.err      what a job said; the run's own output is in DIR/ARM/seedN/log.txt
DIR/.cluster/JOB_submitted.pkl  what submitit runs there (`study.job`): a pickle, to be trusted as code is

`--cluster=local` is submitit's executor on this machine, for rehearsals: no queue, all runs begin at once,
and the command waits for them. They see as many GPUs as `gpus_per_node` says, none without it, and go on
where the command is stopped.
"""

import contextlib
import io
import shutil
import time

from craft_jax import files
from craft_jax.errors import ConfigError, CraftError, Interrupted
from craft_jax.study import job, progress, runner
from craft_jax.study.process import shares

# {submitit's name: (type, meaning)}; those of the second kind are SLURM's alone.
_OPTIONS = {
    "timeout_min": (int, "its time limit; after it the run goes on in another turn (default: 60)"),
    "gpus_per_node": (int, "its GPUs (local: without it none)"),
    "cpus_per_task": (int, "its processors"),
    "mem_gb": (float, "its memory"),
}
_SLURM_OPTIONS = {
    "partition": (str, "where it runs"),
    "account": (str, "whom it is charged to"),
    "qos": (str, "its quality of service"),
    "constraint": (str, "features that its node must have"),
    "array_parallelism": (int, "how many of an array run at once, at most (default: 256)"),
}
_MINUTES = 60
_MOST_TIMEOUTS = 100  # of a job; then something is wrong


def add_arguments(parser):
    """Give a command's parser --cluster and its options."""
    parser.add_argument("--cluster", choices=("slurm", "local"), help="submit the runs as jobs, one each")
    group = parser.add_argument_group("of each job, with --cluster")
    for key, (kind, meaning) in (_OPTIONS | _SLURM_OPTIONS).items():
        group.add_argument(f"--cluster.{key}", type=kind, metavar="VALUE", help=meaning)


def faults(options):
    """What is wrong with parsed options, in words."""
    given = [key for key in vars(options) if key.startswith("cluster.") and vars(options)[key] is not None]
    if given and not options.cluster:
        yield f"--{given[0]}: allowed with --cluster"
    if options.cluster and (options.jobs > 1 or options.minutes is not None):
        yield "--jobs, --minutes: allowed without --cluster; it has .array_parallelism and .timeout_min"


def check(cluster):
    """Refuse what could not be submitted.

    Raises:
      ConfigError: submitit is not installed, or there is no SLURM here.
    """
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--cluster: submitit is missing: pip install -r requirements-cluster.txt"
        ) from error
    for name in ("sbatch", "srun", "squeue") if cluster == "slurm" else ():
        if not shutil.which(name):
            raise ConfigError(
                f"--cluster=slurm: no {name} on PATH; allowed: where jobs of SLURM are submitted"
            )


def under_way(out):
    """{name of a run: QUEUED, RUNNING or, where its job has ended, FAILED} of those that SLURM was given.

    To be asked before it is looked which are done: a job may end in between.

    Args:
      out: the study's directory, a Path.
    Raises:
      ConfigError: SLURM does not answer.
    """
    jobs = _jobs(out)
    queue = job.queue(jobs.values())
    states = {"RUNNING": progress.RUNNING, "COMPLETING": progress.RUNNING, None: progress.FAILED}
    return {name: states.get(queue.get(number), progress.QUEUED) for name, number in jobs.items()}


def submit(kept, options, everywhere):
    """Submit what is left of a study.

    Args:
      kept: the store.Store, whose runs that are not done have the states that `under_way` found.
      options: the command's, all of which the jobs get.
      everywhere: the command's overrides of all arms.
    Returns:
      The exit status: 0 where every run is done, else 75, or 1 where local ones failed.
    Raises:
      ConfigError: submitit or SLURM refuses.
    """
    for run, state in kept.states.items():
        if state == progress.FAILED:
            said = kept.out / job.FOLDER / f"{_jobs(kept.out)[run.name]}_0_log.err"
            print(f"ended without a result, and is submitted again: {run.name} ({said})", flush=True)
    first, later, teaching = _waves(kept)
    if options.cluster == "local":
        _wait(_submit([*first, *later], "", kept, options, everywhere), kept)
    else:
        _note(_submit(first, "", kept, options, everywhere), kept)
        after = [_jobs(kept.out)[run.name] for run in teaching]
        _note(_submit(later, ":".join(["afterany", *after]), kept, options, everywhere), kept)
    states = list(kept.states.values())
    print(f"\n{time.strftime('%H:%M:%S')} {progress.tally(kept.states)}\n{progress.table(kept.states, {})}")
    if progress.FAILED in states:
        return runner.FAILED
    return 0 if set(states) == {progress.DONE} else Interrupted.status


def _waves(kept):
    """(runs that can begin, those that wait, those that train the teachers that are waited for)."""
    trains, first, later = {}, [], []
    teachers = {run: kept.teacher_to_train(run) for run, s in kept.states.items() if s != progress.DONE}
    for run, teacher in teachers.items():
        if teacher and kept.states[run] in (progress.QUEUED, progress.RUNNING):
            trains.setdefault(teacher, run)
    for run, teacher in teachers.items():
        if kept.states[run] in (progress.WAITING, progress.FAILED):
            alone = teacher is None or trains.setdefault(teacher, run) is run
            (first if alone else later).append(run)
    return first, later, dict.fromkeys(trains[teachers[run]] for run in later)


def _submit(runs, dependency, kept, options, everywhere):
    """{run: submitit's job}, of one array."""
    import submitit

    if not runs:
        return {}
    given = {key: vars(options)[f"cluster.{key}"] for key in _OPTIONS}  # None where it is not
    if given["timeout_min"] is None:
        given["timeout_min"] = _MINUTES  # submitit's own default is 5
    given |= {f"slurm_{key}": vars(options)[f"cluster.{key}"] for key in _SLURM_OPTIONS}
    given |= {"slurm_dependency": dependency or None, "slurm_additional_parameters": {"requeue": True}}
    parts = shares(len(runs)) if options.cluster == "local" else [({}, None)] * len(runs)
    jobs = [job.Job(options, everywhere, run.name, part) for run, part in zip(runs, parts, strict=True)]
    limits = {"slurm_max_num_timeout": _MOST_TIMEOUTS, "local_max_num_timeout": _MOST_TIMEOUTS}
    try:
        executor = submitit.AutoExecutor(kept.out / job.FOLDER, cluster=options.cluster, **limits)
        executor.update_parameters(name="craft_jax", **given)
        with contextlib.redirect_stderr(io.StringIO()):  # what SLURM said is told below
            return dict(zip(runs, executor.submit_array(jobs), strict=True))
    except RuntimeError as error:
        raise ConfigError(f"--cluster={options.cluster}: not submitted: {error}") from error


def _note(submitted, kept):
    """Note which job of SLURM each run is."""
    if not submitted:
        return
    for run in submitted:
        kept.states[run] = progress.QUEUED
    noted = _jobs(kept.out) | {run.name: its.job_id for run, its in submitted.items()}
    files.write_json(kept.out / job.FOLDER / "jobs.json", noted)


def _wait(submitted, kept):
    """Wait for local jobs."""
    for run, its in submitted.items():
        if its.exception():
            print(f"failed: {run.name}: {its.paths.stderr}", flush=True)
            kept.states[run] = progress.FAILED
            continue
        try:
            kept.finish(run)
        except (OSError, CraftError) as error:  # a full disk, say; the others are waited for
            print(f"done, but its result could not be kept: {run.name}: {error}", flush=True)
            kept.states[run] = progress.FAILED


def _jobs(out):
    """{name of a run: its job} of those that SLURM was given."""
    path = out / job.FOLDER / "jobs.json"
    return files.read_json(path) if path.exists() else {}
