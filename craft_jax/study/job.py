"""One run of a study as a job that submitit has submitted (`study.cluster`): what happens in the job."""

import os
import signal
import subprocess

import jax

from craft_jax import files
from craft_jax.errors import ConfigError, CraftError, Interrupted
from craft_jax.study import plan, progress, runner, store

FOLDER = ".cluster"  # in the study's directory


class Job:
    """What submitit pickles and calls: in the job, and again where the job is queued again."""

    def __init__(self, options, everywhere, name, share):
        """Prepare.

        Args:
          options: the study's command's.
          everywhere: the command's overrides of all arms.
          name: the run's.
          share: its share of the machine, (environment, cores) as of `process.shares`.
        """
        self._options, self._everywhere, self._name, self._share = options, everywhere, name, share

    def __call__(self):
        """Run it as the study itself would.

        Raises:
          CraftError: it is not done.
          SystemExit: nor has it failed: the job is queued again.
        """
        jax.config.update("jax_platforms", "cpu")  # a GPU's memory is for the run
        environment, cores = self._share
        os.environ.update(environment)
        if cores:
            os.sched_setaffinity(0, cores)
        study, name, question = plan.read(self._options.study)
        runs = plan.runs(study, self._options.out, self._everywhere)
        about = (study, name, question, self._options, runs, self._everywhere)
        kept = store.Store(*about)
        for run, state in kept.states.items():
            if state == progress.WAITING and run.name != self._name:
                kept.states[run] = progress.QUEUED
        status = runner.Runner(kept, 1, None).run()
        if kept.folder:  # others may have ended meanwhile: the manifest there shall name all
            with files.lock(kept.out / FOLDER / ".lock", wait=True):
                kept = store.Store(*about)
                kept.keep_done()
                kept.write_manifests()
        if status == Interrupted.status and _has_place():
            signal.raise_signal(signal.SIGUSR2)  # submitit queues the job again, and leaves
        if status:
            raise CraftError(f"{self._name} ended with status {status}")

    def checkpoint(self):
        """What submitit calls in the job that is queued again: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _has_place():
    """Whether an interrupted job may queue itself again.

    SLURM has one as COMPLETING that was cancelled, or that it queues again itself.
    """
    import submitit

    here = submitit.JobEnvironment()
    return here.cluster != "slurm" or queue([here.job_id]).get(here.job_id) == "RUNNING"


def queue(jobs):
    """{job: state} of those that SLURM still has; a task of an array is called ARRAY_TASK.

    Raises:
      ConfigError: SLURM does not answer.
    """
    if not jobs:
        return {}
    words = ["squeue", "--noheader", "--array", f"--jobs={','.join(jobs)}", "--format=%i %T"]
    asked = subprocess.run(words, capture_output=True, text=True, check=False)
    if asked.returncode and "Invalid job id" not in asked.stderr:  # of a job that ended long ago
        raise ConfigError(f"--cluster=slurm: which jobs there are is not known: {asked.stderr.strip()}")
    return dict(line.split() for line in asked.stdout.splitlines())
