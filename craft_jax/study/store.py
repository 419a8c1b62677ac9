"""Where a study stands: which runs are done, where their results lie, which teachers there are."""

import json
import os
from pathlib import Path

from craft_jax import files, methods
from craft_jax.config import changes
from craft_jax.errors import CheckpointError
from craft_jax.study import kept, plan, progress


class Store:
    """What is on disk of a study.

    Attributes:
      states: {plan.Run: progress.DONE or another state}, in the runs' order.
      results: {plan.Run: the path of its result}, of those that are done.
    """

    def __init__(self, study, name, question, options, runs, everywhere=()):
        """Look what is done; writes nothing.

        Args:
          study, name, question: from `plan.read`.
          options: the command's: study, out and results.
          runs: from `plan.runs`.
          everywhere: the command's overrides of all arms.
        Raises:
          CheckpointError: a directory or a kept result is not what the study means.
        """
        self._study, self._name, self._question, self._spec = study, name, question, options.study
        self._everywhere = dict(everywhere)
        self.out = Path(options.out)
        self.folder = Path(options.results) if options.results else None
        self._check_teachers(runs)
        self.states, self.results = {}, {}
        self._check_manifests()
        for run in runs:
            found = kept.result_path(run, self.folder, self._teachers())
            self.states[run] = progress.DONE if found and not self._left(run) else progress.WAITING
            if found:
                self.results[run] = found

    def _teachers(self):
        """Directories of trained teachers: those trained here before those that are kept."""
        places = [folder / "teachers" for folder in (self.out, self.folder) if folder]
        found = [teacher for place in places for teacher in sorted(place.glob("[!.]*"))]
        return [teacher for teacher in found if teacher.is_dir() and kept.is_trained(teacher)]

    def _check_teachers(self, runs):
        """One recipe, one teacher: two machines that trained it each have two networks."""
        for run in runs:
            found = [t for t in self._teachers() if kept.find_teacher(run, [t]) == t]
            named = {kept.sha256_of(teacher): teacher for teacher in found}
            if len(named) > 1:
                raise CheckpointError(
                    f"two teachers of one recipe: {', '.join(map(str, named.values()))}; "
                    "allowed: one; move the other away, with the runs begun with it"
                )

    def more(self, run):
        """Overrides that give a run the teacher that was kept; () where it has none, or finds its own.

        Raises:
          CheckpointError: the teacher was kept without its weights and is not here.
        """
        if not methods.trains_teacher(run.config):
            return ()
        found = [teacher for teacher in self._teachers() if kept.find_teacher(run, [teacher])]
        able = [teacher for teacher in found if kept.has_weights(teacher)]
        if found and not able:
            raise CheckpointError(
                f"{found[0]}: kept without its weights (over {kept.MOST_BYTES / 1e6:g} MB); "
                f"allowed: the teacher's own directory in {self.out / 'teachers'}"
            )
        return (("teacher.checkpoint", str(able[0])),) if able else ()

    def _left(self, run):
        """Which of the study's evaluations of a run are to do; none once its student is gone."""
        if not (run.workdir / "results.json").exists():
            return []
        return [n for n in self._study.evaluations if not (run.workdir / "eval" / f"{n}.json").exists()]

    def evaluation_left(self, run):
        """The command of the next evaluation of a finished run's student; None when all are done."""
        for name in self._left(run):
            return run.evaluation(name, self._study.evaluations[name], self.more(run))
        return None

    def teacher_to_train(self, run):
        """A name of the teacher that a run would train first; None if it needs none or there is one."""
        if not methods.trains_teacher(run.config) or kept.find_teacher(run, self._teachers()):
            return None
        return json.dumps(plan.teacher_recipe(run.config, run.data), sort_keys=True)

    def finish(self, run):
        """Take note that a run is done, and keep what is to be kept; returns its result."""
        self.states[run] = progress.DONE
        self.results[run] = run.workdir / "results.json"
        result = files.read_json(self.results[run])
        self._keep(run)
        self.write_manifests()
        return result

    def keep_done(self):
        """Keep what was done before and lies in its runs' directories alone."""
        for run in self.results:
            self._keep(run)

    def _keep(self, run):
        if not self.folder or self.results[run].parent == self.folder:
            return
        if teacher := files.read_json(self.results[run])["teacher"]:
            # Where the run had it; it may have been moved since, or be one that is kept.
            places = [*self._teachers(), Path(teacher["checkpoint"])]
            trained = [place for place in places if kept.is_trained(place)]
            same = [place for place in trained if kept.sha256_of(place) == teacher["params_sha256"]]
            if able := [place for place in same if kept.has_weights(place)]:
                kept.keep_teacher(able[0], self.folder)
        self.results[run] = kept.keep(run, self.folder)

    def keep_teachers(self):
        """Keep the teachers that are trained, whose runs may not be done."""
        for teacher in self._teachers() if self.folder else ():
            if kept.has_weights(teacher):
                kept.keep_teacher(teacher, self.folder)

    def _check_manifests(self):
        """What was planned stays so: a study whose results are here may get arms, seeds, evaluations."""
        for place in self._manifests():
            if not place.exists():
                continue
            old, new = files.read_json(place), self._manifest(place.parent, {})
            changed = [key for key in ("baseline", "comparisons") if old[key] != new[key]]
            for arm in old["arms"].keys() & new["arms"].keys():
                ours, theirs = new["arms"][arm], old["arms"][arm]
                changed += [f"arm {arm}" for key in ("config", "overrides") if ours[key] != theirs[key]]
            measured, measures = old.get("evaluations", {}), new["evaluations"]
            both = measured.keys() & measures.keys()
            changed += [f"evaluation {name}" for name in both if measured[name] != measures[name]]
            if changed:
                raise CheckpointError(
                    f"{place}: a study with other {', '.join(changed)}; allowed: to add arms, seeds and "
                    "evaluations; else another place, or a study file of another name"
                )

    def _manifests(self):
        kept_there = [self.folder / f"{self._name}.study.json"] if self.folder else []
        return [self.out / "study.json", *kept_there]

    def write_manifests(self):
        """DIR/study.json and FOLDER/STUDY.study.json: the study, and where each run's result lies."""
        for place in self._manifests():
            place.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(place, self._manifest(place.parent, self.results))

    def _manifest(self, place, results):
        everywhere = {key: text for key, text in self._everywhere.items() if not changes.is_place(key)}
        arms = {
            name: {
                "config": arm.config,
                "overrides": {key: plan.text_of(value) for key, value in arm.overrides.items()} | everywhere,
                "seeds": list(arm.seeds or self._study.seeds),
            }
            for name, arm in self._study.arms.items()
        }
        runs = [
            {"arm": run.arm, "seed": run.seed, "result": self._place_of(run, place, results)}
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
            "evaluations": {
                name: {key: plan.text_of(value) for key, value in own.items()}
                for name, own in self._study.evaluations.items()
            },
            "runs": runs,
        }

    def _place_of(self, run, place, results):
        """The path of a run's result from `place`; None if there is none, and there will be none there."""
        if run not in results and place != self.out:
            return None
        return os.path.relpath(results.get(run, run.workdir / "results.json"), place)
