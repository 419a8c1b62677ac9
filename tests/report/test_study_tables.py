"""Tables of studies and of groups of runs, from made-up results."""

import csv
import io
import math

import numpy as np
import pytest

from craft_jax.evaluation.robustness import METRICS
from craft_jax.report import __main__ as report
from craft_jax.report import formats
from tests.report.fabricated import correctness, made, of, pick, read, result, study, write

KD, ERM = (71.0, 74.0, 72.0), (70.0, 72.0, 69.0)  # robust accuracies; differences 1, 2, 3


def test_the_columns(tmp_path):
    study(tmp_path / "s", {"kd": of(KD), "erm": of(ERM)}, [("kd", "erm", "robust")], "erm")
    made(tmp_path, tmp_path / "s")
    head = {
        path.stem: path.read_text().splitlines()[0].split(",") for path in tmp_path.glob("out/tables/*.csv")
    }
    assert head["arms"][:6] == ["arm", "n", "clean_mean", "clean_sd", "clean_low", "clean_high"]
    assert head["arms"][6:10] == ["robust_mean", "robust_sd", "robust_low", "robust_high"]
    parts = [f"{metric}_{part}" for metric in METRICS for part in ("mean", "sd", "low", "high")]
    assert head["arms"] == ["arm", "n", *parts, "differs"]
    first = ["arm", "baseline", "metric", "n", "difference", "low", "high"]
    assert head["comparisons"][:11] == [*first, "t", "p", "p_holm", "d_z"]
    assert head["differences"][:7] == first and not {"p", "t", "d_z"} & set(head["differences"])
    assert {path.suffix for path in tmp_path.glob("out/tables/*")} == {".csv", ".md", ".tex"}
    assert len(list(tmp_path.glob("out/tables/*"))) == 12  # runs.* among them


def test_a_study_worked_by_hand(tmp_path, capsys):
    planned = [("kd", "erm", "robust"), ("kd", "erm", "clean"), ("craft", "erm", "robust")]
    arms = {"kd": of(KD), "erm": of(ERM), "craft": {0: None, 1: None, 2: None}}
    study(tmp_path / "s", arms, planned, "erm")
    tables = made(tmp_path, tmp_path / "s")
    kd = pick(tables["arms"], arm="kd")
    mean, sd = 217 / 3, math.sqrt(7 / 3)
    half = 4.3026527 * sd / math.sqrt(3)  # t of 2 degrees of freedom
    found = [float(kd[f"robust_{part}"]) for part in ("mean", "sd", "low", "high")]
    assert found == pytest.approx([mean, sd, mean - half, mean + half], abs=1e-6)
    assert (kd["n"], kd["clean_mean"], kd["clean_sd"]) == ("3", "90.000000", "0.000000")
    expected = {"noise": mean + 1, "weather": mean + 2, "weather_digital": mean + 0.5, "digital": mean - 2}
    expected |= {"robust_without_jpeg": mean - 1, "nll": 1.5, "ece": 0.0625}
    assert {m: float(kd[f"{m}_mean"]) for m in expected} == pytest.approx(expected, abs=1e-6)
    assert kd["blur_mean"] == kd["blur_low"] == ""  # not evaluated
    assert pick(tables["arms"], arm="craft")["n"] == "0"

    row = pick(tables["comparisons"], arm="kd", metric="robust")
    t, half = 2 * math.sqrt(3), 4.3026527 / math.sqrt(3)
    p = 1 - t / math.sqrt(2 + t * t)
    names = ("n", "difference", "low", "high", "t", "p", "p_holm", "d_z", "sd")
    numbers = (3, 2.0, 2 - half, 2 + half, t, p, 3 * p, 2.0, 1.0)  # three are planned, one is tested
    assert [float(row[name]) for name in names] == pytest.approx(numbers, abs=1e-6)
    assert float(row["least_difference"]) < float(row["least_difference_holm"])
    assert row["wilcoxon_p"] == ""
    same = pick(tables["comparisons"], metric="clean")
    assert (same["difference"], same["low"], same["high"]) == ("0.000000",) * 3
    assert (same["t"], same["p"], same["p_holm"], same["d_z"]) == ("",) * 4
    assert "identical differences" in same["note"]
    missing = pick(tables["comparisons"], arm="craft")
    assert missing["n"] == "0" and missing["difference"] == missing["p"] == ""
    assert missing["note"].startswith("seeds 0, 1, 2: craft not done yet")
    out = capsys.readouterr().out
    assert "trial: 6 of 9 runs. Which?" in out
    assert "not done yet: craft seeds 0, 1, 2" in out and "all 3 planned" in out
    assert "the least that 5 can give is 0.0625" in out
    assert "72.33 (1.53) [68.54, 76.13]" in out and "+2.00" in out
    assert "nan" not in "".join(path.read_text() for path in tmp_path.glob("out/tables/*")).lower()


def test_a_comparison_is_tested_when_no_pair_is_to_come(tmp_path):
    arms = {"kd": of((71.0, 72.0, 74.0)), "erm": of((70.0, 70.0, 71.0)), "crd": of((60.0, 62.0, 61.0))}
    arms["kd"][3] = arms["erm"][3] = None
    study(tmp_path / "s", arms, [("kd", "erm", "robust"), ("kd", "crd", "robust")])
    rows = made(tmp_path, tmp_path / "s")["comparisons"]
    early = pick(rows, baseline="erm")
    assert (early["n"], float(early["difference"]), early["p"], early["t"]) == ("3", 2.0, "", "")
    assert "not tested while pairs are to come" in early["note"]
    assert pick(rows, baseline="crd")["p"] != ""  # seed 3 was never planned there


def test_further_evaluations_are_written_apart(tmp_path):
    arms = {"kd": of(KD), "erm": of(ERM)}
    study(tmp_path / "s", arms, [("kd", "erm", "robust")], "erm")
    for arm, of_seed in arms.items():
        for seed, own in of_seed.items():
            again = {**own, "robust_accuracy": own["robust_accuracy"] - 10}
            del again["status"]  # evaluations beside a run's own have none
            write(tmp_path / "s" / arm / f"seed{seed}" / "eval" / "c_bar.json", again)
    made(tmp_path, tmp_path / "s")
    tables = tmp_path / "out" / "evaluations" / "tables"
    rows = list(csv.DictReader((tables / "arms.csv").open(newline="")))
    assert float(pick(rows, arm="kd")["robust_mean"]) == pytest.approx(sum(KD) / 3 - 10)
    rows = list(csv.DictReader((tables / "runs.csv").open(newline="")))
    assert len(rows) == 6 and all(row["status"] == "done" and row["marks"] for row in rows)


def test_what_is_not_planned_has_no_p(tmp_path):
    arms = {"a": of(KD), "b": of(ERM), "base": of((60.0, 61.0, 63.0))}
    study(tmp_path / "s", arms, [("a", "b", "robust")], "base")
    rows = made(tmp_path, tmp_path / "s")["differences"]
    pairs = {(row["arm"], row["baseline"]) for row in rows}
    assert pairs == {("a", "base"), ("b", "base"), ("a", "b")}
    assert len(rows) == 3 * len(METRICS) - 1  # but for the planned one
    assert not [row for row in rows if (row["arm"], row["baseline"], row["metric"]) == ("a", "b", "robust")]
    row = pick(rows, arm="b", baseline="base", metric="robust")
    mean, sd = 9.0, math.sqrt(((10 - 9) ** 2 + (11 - 9) ** 2 + (6 - 9) ** 2) / 2)
    half = 4.3026527 * sd / math.sqrt(3)
    found = [float(row[key]) for key in ("difference", "low", "high", "sd")]
    assert found == pytest.approx([mean, mean - half, mean + half, sd], abs=1e-6)


def test_stopped_and_foreign_results_never_enter_a_mean(tmp_path, capsys):
    arms = {"kd": of((71.0, 1.0, 2.0, 73.0)), "erm": of((70.0, 70.0, 70.0, 70.5))}
    arms["kd"][1] |= {"status": "stopped", "stopped_at_step": 5, "stopped_terms": ["loss/ce"]}
    arms["kd"][2] |= {"seed": 7}
    study(tmp_path / "s", arms, [("kd", "erm", "robust")])
    tables = made(tmp_path, tmp_path / "s")
    assert float(pick(tables["arms"], arm="kd")["robust_mean"]) == 72.0
    row = pick(tables["comparisons"], arm="kd")
    assert (row["n"], float(row["difference"]), row["p"]) == ("2", 1.75, "")
    assert "2 pairs: no test below 3" in row["note"]
    out = capsys.readouterr().out
    assert "left out: kd seed 1, stopped at step 5: loss/ce not finite" in out
    assert "left out: kd seed 2, its result is of seed 7" in out and "6 of 8 runs" in out


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"draws": "other"}, "draws"),
        ({"data": {"fingerprint": "g"}}, "data"),
        ({"examples": 4}, "examples"),
        ({"corruptions": {"fog": [70.0] * 5}}, "cells"),
        ({"evaluation_split": "validation"}, "evaluation split"),
        ({"teacher": {"name": "t", "params_sha256": "2"}}, "teacher"),
    ],
)
def test_runs_that_share_less_are_no_pairs(tmp_path, changes, named):
    taught = {"teacher": {"name": "t", "params_sha256": "1"}}
    kd, other = of(KD, **taught), of(ERM, **(taught | changes))
    study(tmp_path / "s", {"kd": kd, "other": other, "erm": of(ERM)}, [("kd", "other", "robust")], "erm")
    tables = made(tmp_path, tmp_path / "s")
    row = pick(tables["comparisons"], arm="kd")
    assert row["n"] == "0" and row["difference"] == ""
    assert row["note"].startswith(f"seeds 0, 1, 2: not a pair, other {named}")
    assert pick(tables["arms"], arm="other")["n"] == "3"  # a mean of its own it has
    assert pick(tables["differences"], arm="kd", metric="robust")["n"] == "3"  # ERM has no teacher


def test_a_run_measured_unlike_the_rest_of_its_arm_is_left_out(tmp_path, capsys):
    arms = {"kd": of(KD), "erm": of(ERM)}
    arms["kd"][0] |= {"examples": 4}
    study(tmp_path / "s", arms, [("kd", "erm", "robust")])
    tables = made(tmp_path, tmp_path / "s")
    assert float(pick(tables["arms"], arm="kd")["robust_mean"]) == 73.0
    assert pick(tables["comparisons"], arm="kd")["n"] == "2"
    assert "left out: kd seed 0, other examples than most of its arm" in capsys.readouterr().out


def test_an_undefined_figure_is_not_averaged_over(tmp_path, capsys):
    arms = {"kd": of(KD), "erm": of(ERM)}
    arms["kd"][1] |= {"corrupted": {"nll": float("nan"), "ece": None}}
    study(tmp_path / "s", arms, [("kd", "erm", "nll")])
    tables = made(tmp_path, tmp_path / "s")
    kd = pick(tables["arms"], arm="kd")
    assert kd["nll_mean"] == kd["ece_mean"] == "" and kd["robust_mean"] != ""
    row = pick(tables["comparisons"], arm="kd")
    assert row["n"] == "2" and "seed 1: no nll of kd" in row["note"]
    assert "kd: nll is undefined in seed 1" in capsys.readouterr().out


def single(tmp_path, right_kd, right_erm, **changes):
    folder = tmp_path / "s"
    results = {}
    for arm, right in (("kd", right_kd), ("erm", right_erm)):
        clean, robust = (100 * np.mean([right[k] for k in right if (k == "clean") == c]) for c in (1, 0))
        results[arm] = {0: result(0, clean, robust, examples=len(right["clean"]), **changes)}
    study(folder, results, [("kd", "erm", "robust"), ("kd", "erm", "clean")])
    for arm, right in (("kd", right_kd), ("erm", right_erm)):
        correctness(folder / arm / "seed0" / "results.npz", right)
    return made(tmp_path, folder)["comparisons"]


def test_a_single_pair_has_an_interval_over_images(tmp_path):
    random = np.random.RandomState(0)
    cells = ("clean", "fog/1", "fog/5")
    kd = {cell: random.rand(101) < 0.8 for cell in cells}
    erm = {cell: random.rand(101) < 0.6 for cell in cells}
    robust, clean = single(tmp_path, kd, erm)
    for row, names in ((robust, cells[1:]), (clean, cells[:1])):
        gained = np.mean([100 * (kd[c].astype(float) - erm[c]) for c in names], axis=0)
        draws = gained[np.random.RandomState(1).randint(101, size=(20_000, 101))].mean(axis=1)
        assert float(row["difference"]) == pytest.approx(gained.mean(), abs=1e-5)
        found = float(row["image_low"]), float(row["image_high"])
        assert found == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.5)
        assert (row["n"], row["low"], row["p"], row["p_holm"]) == ("1", "", "", "")
        assert "1 pair: no test below 3" in row["note"]


def test_correctness_of_another_network_is_refused(tmp_path):
    right = {cell: np.arange(8) < 6 for cell in ("clean", "fog/1", "fog/5")}
    single(tmp_path, right, right)
    assert report.main([str(tmp_path / "s"), f"--out={tmp_path / 'out'}"]) == 0
    assert pick(read(tmp_path / "out" / "tables")["comparisons"], metric="robust")["image_low"] == "0.000000"
    other = right | {"fog/5": np.arange(8) < 2}
    correctness(tmp_path / "s" / "kd" / "seed0" / "results.npz", other)
    robust, clean = made(tmp_path, tmp_path / "s")["comparisons"]
    assert robust["image_low"] == "" and "other accuracies" in robust["note"]
    assert clean["image_low"] == "0.000000"
    (tmp_path / "s" / "erm" / "seed0" / "results.npz").unlink()
    robust, clean = made(tmp_path, tmp_path / "s")["comparisons"]
    assert "no per-image correctness of erm" in clean["note"]


def test_kept_results_and_several_studies(tmp_path):
    for name in ("one", "two"):
        study(tmp_path, {"kd": of(KD)}, name=name, manifest=f"{name}.study.json")
    assert report.main([str(tmp_path), f"--out={tmp_path / 'out'}"]) == 0
    for name in ("one", "two"):
        assert read(tmp_path / "out" / name / "tables")["arms"][0]["n"] == "3"
    assert made(tmp_path, tmp_path / "two.study.json")["arms"][0]["arm"] == "kd"


def test_two_studies_of_one_name_do_not_share_a_folder(tmp_path, capsys):
    for name in "ab":
        study(tmp_path / name, {"kd": of(KD)})
    assert report.main([str(tmp_path / "a"), str(tmp_path / "b"), f"--out={tmp_path / 'out'}"]) == 2
    assert "two studies are called trial" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"comparisons": [("kd", "nobody", "robust")]}, "no arm is called 'nobody'; allowed: kd, erm"),
        ({"comparisons": [("kd", "erm", "speed")]}, "metric: 'speed'; allowed: clean, robust, "),
        ({"comparisons": [("kd", "kd", "robust")]}, "kd is compared with itself"),
        ({"comparisons": [("kd", "erm", "robust")] * 2}, "comparison kd, erm, robust is there twice"),
        ({"baseline": "none"}, "no arm is called 'none'"),
        ({"name": "../../up"}, "name: '../../up'"),
    ],
)
def test_a_manifest_that_does_not_hang_together_is_refused(tmp_path, changes, message, capsys):
    study(tmp_path / "s", {"kd": of(KD), "erm": of(ERM)}, **changes)
    assert report.main([str(tmp_path / "s")]) == 2
    error = capsys.readouterr().err
    assert "s/study.json: " in error and message in error


def test_files_that_are_no_manifest_or_no_result_are_named(tmp_path, capsys):
    path = write(tmp_path / "study.json", {"name": "x"})
    assert report.main([path]) == 2
    assert "not the manifest of a study" in capsys.readouterr().err
    study(tmp_path, {"kd": {0: {"status": "done", "seed": 0}}})
    assert report.main([path]) == 2
    assert "kd/seed0/results.json: not the result of a run" in capsys.readouterr().err


def test_names_do_no_harm(tmp_path):
    names = ['a,"b"', "50%_of & {x}\\y", "p|q"]
    arms = dict(zip(names, (of(KD), of(ERM), of(KD)), strict=True))
    study(tmp_path / "s", arms, [(names[0], names[1], "robust")], names[1])
    tables = made(tmp_path, tmp_path / "s")
    assert [row["arm"] for row in tables["arms"]] == names
    assert pick(tables["comparisons"], metric="robust")["baseline"] == names[1]
    latex = (tmp_path / "out" / "tables" / "arms.tex").read_text()
    assert r"50\%\_of \& \{x\}\textbackslash{}y & 3 &" in latex and r"p\textbar{}q" in latex
    widths = {line.replace(r"\&", "").count("&") for line in latex.splitlines() if line.endswith(r"\\")}
    assert len(widths) == 1
    lines = (tmp_path / "out" / "tables" / "arms.md").read_text().splitlines()
    assert len({line.replace(r"\|", "").count("|") for line in lines if line.startswith("|")}) == 1


def test_cells_keep_their_digits():
    table = formats.Table("t", ("a", "b", "c", "d"), [(1e-7, -0.0, None, 70.125)], (), [], [])
    assert list(csv.reader(io.StringIO(formats.to_csv(table))))[1] == [
        "1.000000e-07",
        "0.000000",
        "",
        "70.125000",
    ]
    assert formats.latex("[-1.50, 2.00] wrn-28-10") == "[$-$1.50, 2.00] wrn-28-10"
