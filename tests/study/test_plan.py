"""A study file to its runs: order, commands, and every fault before anything runs."""

import importlib
from pathlib import Path

import pytest

from craft_jax import methods, study
from craft_jax.errors import ConfigError
from craft_jax.study import Arm, Comparison, Study, plan


def small(**changes):
    arms = {"erm": Arm("configs/erm.py:smoke"), "kd": Arm("configs/kd.py:smoke", {"kd.weight": 2.0})}
    whole = {"arms": arms, "seeds": (0, 1), "baseline": "erm"} | changes
    return Study(**whole)


def test_all_arms_of_a_seed_come_before_the_next_seed(tmp_path):
    arms = small().arms | {"late": Arm("configs/erm.py:smoke", seeds=(1, 7))}
    runs = plan.runs(small(arms=arms), tmp_path)
    names = [run.name for run in runs]
    assert names == ["erm/seed0", "kd/seed0", "erm/seed1", "kd/seed1", "late/seed1", "late/seed7"]
    assert [run.config.seed for run in runs] == [0, 0, 1, 1, 1, 7]
    assert [run.workdir for run in runs] == [tmp_path / name for name in names]


def test_a_command_says_all_that_the_run_is(tmp_path):
    _, run = plan.runs(small(seeds=(3,)), tmp_path, [("epochs", "2"), ("eval.severities", "1,5")])
    words = run.command([("teacher.checkpoint", "there")])
    assert words[1:5] == [
        "-m",
        "craft_jax.main",
        "--config=configs/kd.py:smoke",
        f"--workdir={tmp_path}/kd/seed3",
    ]
    assert set(words[5:]) == {
        "--config.kd.weight=2.0",
        "--config.epochs=2",
        "--config.eval.severities=1,5",
        f"--config.teacher.cache={tmp_path}/teachers",
        "--config.eval.teacher=False",
        "--config.log.progress=False",
        "--config.seed=3",
        "--config.teacher.checkpoint=there",
    }
    assert (run.config.kd.weight, run.config.epochs, run.config.eval.severities) == (2.0, 2, (1, 5))


def test_every_fault_is_told_at_once(tmp_path):
    arms = {
        "a b": Arm("configs/erm.py:smoke"),
        "seed1": Arm("configs/erm.py:smoke"),
        "one": Arm("configs/erm.py:smoke", {"optimizer.momentum": 2.0, "nothing": 1}),
        "two": Arm("configs/erm.py:smoke", {"epochs": 3, "seed": 4}),
        "three": Arm("configs/none.py"),
        "four": Arm("configs/erm.py:smoke", seeds=(1, 1)),
    }
    wanted = (Comparison("one", "five", "robust"), Comparison("two", "two", "accuracy"))
    with pytest.raises(ConfigError) as caught:
        plan.runs(Study(arms, (), "six", wanted), tmp_path, [("epochs", "2")])
    message = str(caught.value)
    for part in (
        "arm 'a b': allowed: 1 to 100 of letters",
        "arm 'seed1'",
        "arm one: config.nothing: no such key",
        "arm one: config.optimizer.momentum: 2.0",
        "arm two: config.epochs: overridden by the study file and by the command",
        "arm two: config.seed: allowed: Study.seeds or Arm.seeds",
        "arm three: --config: no file 'configs/none.py'",
        "arm four: a seed twice in (1, 1)",
        "arm one: no seeds",
        "baseline: 'six' is no arm",
        "comparisons: 'five' is no arm",
        "comparisons: metric 'accuracy'; allowed: clean, robust",
        "comparisons: two with itself",
    ):
        assert part in message


FILES = sorted(path.stem for path in Path("configs/studies").glob("[!_]*.py"))


@pytest.mark.parametrize("name", [name for name in FILES if name != "chosen"])  # which holds weights alone
def test_every_study_file_of_the_repository_has_no_fault(name, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))  # a file may bring a method of its own
    of_file = importlib.import_module(f"configs.studies.{name}").get_study()
    runs = plan.runs(of_file, tmp_path, [("data.dir", str(tmp_path))])
    assert len({run.name for run in runs}) == len(runs) >= len(of_file.arms)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("batch_size", 16, "batch_size"),
        ("eval.max_examples", 10, "eval.max_examples"),
        ("student.name", "resnet14", "student.name"),
        ("teacher.epochs", 2, "teacher"),
    ],
)
def test_what_cannot_be_paired_is_refused(tmp_path, key, value, named):
    arms = {"kd": Arm("configs/kd.py:smoke"), "craft": Arm("configs/craft.py:smoke", {key: value})}
    planned = Study(arms, (0,), "kd", (Comparison("craft", "kd", "robust"),))
    with pytest.raises(ConfigError, match=f"craft and kd differ in {named};"):
        plan.runs(planned, tmp_path)
    assert len(plan.runs(Study(arms, (0,), "kd"), tmp_path)) == 2  # without a comparison it may


def test_arms_may_differ_in_what_is_not_shared(tmp_path):
    arms = {
        "erm": Arm("configs/erm.py:smoke", {"epochs": 2}),  # has no teacher
        "craft": Arm("configs/craft.py:smoke", {"eval.batch_size": 32}),
    }
    planned = Study(arms, (0,), "erm", (Comparison("craft", "erm", "robust"),))
    assert len(plan.runs(planned, tmp_path)) == 2


def test_a_grid_is_the_product_of_its_axes():
    arm = Arm("configs/kd.py", {"epochs": 1}, seeds=(5,))
    arms = study.grid("kd", arm, kd__weight={"w1": 1.0, "w2": 2.0}, kd__temperature={"t4": 4.0})
    assert arms == {
        "kd_w1_t4": Arm("configs/kd.py", {"epochs": 1, "kd.weight": 1.0, "kd.temperature": 4.0}, (5,)),
        "kd_w2_t4": Arm("configs/kd.py", {"epochs": 1, "kd.weight": 2.0, "kd.temperature": 4.0}, (5,)),
    }


def test_a_file_that_is_no_study_is_refused_in_words(tmp_path):
    file = tmp_path / "mine.py"
    with pytest.raises(ConfigError, match=r"no file .*configs/studies/smoke\.py"):
        plan.read(str(file))
    for text, said in (
        ("def get_study(preset):\n  return 3\n", "returned int"),
        ("def get_study(preset):\n  raise KeyError('x')\n", "KeyError"),
        ("x = 1\n", "AttributeError"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=said):
            plan.read(str(file))
    file.write_text(
        '"""Why?\n\n  Because.\n"""\nfrom craft_jax.study import *\n'
        "def get_study(preset):\n  return Study({}, (), preset)\n"
    )
    assert plan.read(f"{file}:a,b") == (Study({}, (), "a,b"), "mine_a_b", "Why?\n\nBecause.")


def test_evaluations_that_cannot_be_are_told(tmp_path):
    further = {"a/b": {"eval.severities": (5,)}, "c": {"epochs": 3}, "d": {"eval.corruptions": ("fgo",)}}
    study = Study({"erm": Arm("configs/erm.py:smoke")}, (0,), "erm", (), further)
    with pytest.raises(ConfigError) as caught:
        plan.runs(study, tmp_path)
    told = str(caught.value).splitlines()
    assert told[0].startswith("evaluation 'a/b': allowed") and told[1].startswith(
        "evaluation c: epochs; allowed"
    )
    assert told[2].startswith("evaluation d of erm: config.eval.corruptions: 'fgo'"), told


def test_the_command_of_a_further_evaluation(tmp_path):
    study = Study({"erm": Arm("configs/erm.py:smoke", {"eval.severities": (1,)})}, (3,), "erm")
    (run,) = plan.runs(study, tmp_path)
    words = run.evaluation("hard", {"eval.severities": (4, 5)}, [("teacher.cache", "there")])
    assert words[:3] == run.command()[:3] and words[-2:] == ["--mode=eval", "--eval_name=hard"]
    assert [word for word in words if "severities" in word] == ["--config.eval.severities=4,5"]
    assert f"--workdir={tmp_path}/erm/seed3" in words and "--config.teacher.cache=there" in words


def test_parts_of_another_type_are_told(tmp_path):
    odd = Study({"kd": "configs/kd.py", "erm": Arm("configs/erm.py:smoke")}, (0,), "erm", (("kd", "erm"),))
    with pytest.raises(ConfigError) as caught:
        plan.runs(odd, tmp_path)
    assert str(caught.value).splitlines() == [
        "arm kd: str; allowed: a study.Arm",
        "comparisons: ('kd', 'erm'); allowed: a study.Comparison",
    ]
    with pytest.raises(ConfigError, match=r"^arms: list; allowed: a mapping of names to study.Arm$"):
        plan.runs(Study([Arm("configs/erm.py:smoke")], (0,), "erm"), tmp_path)


@pytest.mark.parametrize("seeds", [(-1,), (2**31,), (0, True), (0.5,), ("0",), 3])
def test_seeds_are_integers_that_a_run_takes(tmp_path, seeds):
    allowed = "allowed: a tuple of integers from 0 to 2^31 - 1"
    with pytest.raises(ConfigError) as caught:
        plan.runs(Study({"erm": Arm("configs/erm.py:smoke", {}, seeds)}, seeds, "erm"), tmp_path)
    assert str(caught.value).splitlines() == [
        f"seeds: {seeds!r}; {allowed}",
        f"arm erm: seeds: {seeds!r}; {allowed}",
    ]
