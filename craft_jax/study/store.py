"""Where a study stands: which runs are done, where their results lie, which teachers there are."""

import json
import os
from pathlib import Path

from craft_jax import files, methods
from craft_jax.errors import CheckpointError
from craft_jax.study import kept, plan, progress


class Store:
    """What is on disk of a study.

    Attributes:
      states: {plan.Run: progress.DONE or another state}, in the runs' order.
      results: {plan.Run: the path of its result}, of those that are done.
    """

    def __init__(self, study, name, question, options, runs):
        """Look what is done.

        Args:
          study, name, question: from `plan.read`.
          options: the command's: study, out and results.
          runs: from `plan.runs`.
        Raises:
          CheckpointError: a directory or a kept result is not what the study means.
        """
        self._study, self._name, self._question, self._spec = study, name, question, options.study
        self.out = Path(options.out)
        self.folder = Path(options.results) if options.results else None
        self._check_teachers(runs)
        self.states, self.results = {}, {}
        for run in runs:
            found = kept.result_path(run, self.folder, self._teachers())
            self.states[run] = progress.DONE if found else progress.WAITING
            if found:
                self.results[run] = found
                self._keep(run)

    def _teachers(self):
        """Directories of trained teachers: those that are kept before those trained here."""
        places = [folder / "teachers" for folder in (self.folder, self.out) if folder]
        return [teacher for place in places for teacher in sorted(place.glob("[!.]*")) if teacher.is_dir()]

    def _check_teachers(self, runs):
        """One recipe, one teacher: two machines that trained it each have two networks."""
        for run in runs:
            found = {}
            for teacher in self._teachers():
                if kept.find_teacher(run.config, [teacher]) == teacher:
                    found[kept.sha256_of(teacher)] = teacher
            if len(found) > 1:
                raise CheckpointError(
                    f"two teachers of one recipe: {', '.join(map(str, found.values()))}; "
                    "allowed: one; move the other away, with the runs begun with it"
                )

    def more(self, run):
        """Overrides that give a run the teacher that was kept; () where it has none, or finds its own.

        Raises:
          CheckpointError: the teacher was kept without its weights and is not here.
        """
        if not methods.trains_teacher(run.config):
            return ()
        found = [t for t in self._teachers() if kept.find_teacher(run.config, [t])]
        able = [teacher for teacher in found if kept.has_weights(teacher)]
        if found and not able:
            raise CheckpointError(
                f"{found[0]}: kept without its weights (over {kept.MOST_BYTES / 1e6:g} MB); "
                f"allowed: the teacher's own directory in {self.out / 'teachers'}"
            )
        return (("teacher.checkpoint", str(able[0])),) if able else ()

    def teacher_to_train(self, run):
        """A name of the teacher that a run would train first; None if it needs none or there is one."""
        if not methods.trains_teacher(run.config) or kept.find_teacher(run.config, self._teachers()):
            return None
        return json.dumps(plan.teacher_recipe(run.config), sort_keys=True)

    def finish(self, run):
        """Take note that a run is done, and keep what is to be kept."""
        self.states[run] = progress.DONE
        self.results[run] = run.workdir / "results.json"
        self._keep(run)
        self.write_manifests()

    def _keep(self, run):
        """Keep a result that lies in its run's directory alone."""
        if not self.folder or self.results[run].parent == self.folder:
            return
        teacher = files.read_json(self.results[run])["teacher"]
        if teacher and Path(teacher["checkpoint"]).parent != (self.folder / "teachers").absolute():
            kept.keep_teacher(Path(teacher["checkpoint"]), self.folder)
        self.results[run] = kept.keep(run, self.folder)

    def keep_teachers(self):
        """Keep the teachers that are trained, whose runs may not be done."""
        for teacher in self._teachers() if self.folder else ():
            if teacher.parent.parent == self.out and (teacher / "results.json").exists():
                kept.keep_teacher(teacher, self.folder)

    def write_manifests(self):
        """DIR/study.json and FOLDER/STUDY.study.json: the study, and where each run's result lies."""
        self.out.mkdir(parents=True, exist_ok=True)
        files.write_json(self.out / "study.json", self._manifest(self.out))
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write_json(self.folder / f"{self._name}.study.json", self._manifest(self.folder))

    def _result(self, run, place):
        """The path of a run's result from `place`; None if there is none, and there will be none there."""
        if run not in self.results and place != self.out:
            return None
        return os.path.relpath(self.results.get(run, run.workdir / "results.json"), place)

    def _manifest(self, place):
        arms = {
            name: {
                "config": arm.config,
                "overrides": {key: plan.text_of(value) for key, value in arm.overrides.items()},
                "seeds": list(arm.seeds or self._study.seeds),
            }
            for name, arm in self._study.arms.items()
        }
        runs = [
            {
                "arm": run.arm,
                "seed": run.seed,
                "result": self._result(run, place),
            }
            for run in self.states
        ]
        return {
            "name": self._name,
            "question": self._question,
            "file": self._spec,
            "seeds": list(self._study.seeds),
            "baseline": self._study.baseline,
            "arms": arms,
            "comparisons": [planned._asdict() for planned in self._study.comparisons],
            "runs": runs,
        }
