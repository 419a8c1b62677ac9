"""Runs outside a study: which are an arm, beside studies, and their evaluations; from made-up results."""

import csv

from craft_jax.report import __main__ as report
from tests.report.fabricated import made, of, pick, read, result, study, write

KD, ERM = (71.0, 74.0, 72.0), (70.0, 72.0, 69.0)  # robust accuracies; differences 1, 2, 3


def runs(folder, arm, values, **config):
    folders = [folder / arm / f"seed{seed}" for seed in range(len(values))]
    for seed, (path, value) in enumerate(zip(folders, values, strict=True)):
        write(path / "results.json", result(seed, robust=value, config=config))
    return list(map(str, folders))


def test_runs_outside_a_study_are_grouped_by_configuration(tmp_path, capsys):
    paths = runs(tmp_path, "erm", ERM)
    paths += runs(tmp_path, "kd", KD, kd={"weight": 2.0}, method="kd", eval={"batch_size": 4})
    tables = made(tmp_path, *paths)
    erm, kd = tables["arms"]
    assert (erm["arm"], erm["n"], kd["arm"], kd["n"]) == ("erm", "3", "kd", "3")
    # eval.batch_size changes no figure, the seed is what pairs are made of
    assert (erm["differs"], kd["differs"]) == ("kd.weight=1.0, method=erm", "kd.weight=2.0, method=kd")
    row = pick(tables["differences"], arm="kd", metric="robust")
    assert (row["baseline"], row["n"], float(row["difference"])) == ("erm", "3", 2.0)
    assert tables["comparisons"] == []
    out = capsys.readouterr().out
    assert out.startswith("| run ") and "kd.weight=2.0, method=kd" in out
    assert report.main(paths) == 0  # without --out as well, since there are seeds
    assert "72.33 (1.53)" in capsys.readouterr().out
    assert report.main(paths[::3]) == 0  # one run an arm: as ever
    assert "(sample standard deviation)" not in capsys.readouterr().out


def test_runs_of_other_measurements_or_teachers_are_other_groups(tmp_path):
    paths = [write(tmp_path / "kd_seed0.json", result(0)), write(tmp_path / "kd_seed1.json", result(1))]
    paths.append(write(tmp_path / "kd_seed2.json", result(2, examples=4)))
    taught = [{"name": "t", "params_sha256": sha} for sha in ("1" * 64, "2" * 64)]
    paths += [write(tmp_path / f"t_seed{s}.json", result(s, teacher=t)) for s, t in enumerate(taught)]
    rows = made(tmp_path, *paths)["arms"]
    assert [(row["arm"], row["n"]) for row in rows] == [
        ("kd", "2"), ("kd (2)", "1"), ("t", "1"), ("t (4)", "1")
    ]  # fmt: skip
    assert "examples=8" in rows[0]["differs"] and "examples=4" in rows[1]["differs"]
    assert len({row["differs"].split("teacher=")[1] for row in rows[2:]}) == 2


def test_the_same_seed_twice_counts_once(tmp_path, capsys):
    paths = [write(tmp_path / f"{name}_seed0.json", result(0, robust=70.0)) for name in ("kd", "copy")]
    paths.append(write(tmp_path / "kd_seed1.json", result(1, robust=72.0)))
    paths.append(write(tmp_path / "bad_seed2.json", result(2, status="stopped")))
    paths += runs(tmp_path, "other", (73.0, 74.0), method="kd")
    tables = made(tmp_path, *paths)
    row = pick(tables["arms"], arm="kd")
    assert (row["n"], float(row["robust_mean"])) == ("2", 71.0)
    assert pick(tables["differences"], metric="robust")["n"] == "2"
    out = capsys.readouterr().out
    assert "left out: kd seed 0, seed 0 again" in out and "copy_seed0.json" in out
    assert "left out: bad seed 2, status stopped" in out


def test_a_study_beside_runs(tmp_path):
    study(tmp_path / "s", {"kd": of(KD)})
    paths = runs(tmp_path, "erm", ERM)
    assert report.main([str(tmp_path / "s"), *paths, f"--out={tmp_path / 'out'}"]) == 0
    assert read(tmp_path / "out" / "trial" / "tables")["arms"][0]["arm"] == "kd"
    assert read(tmp_path / "out" / "runs" / "tables")["arms"][0]["arm"] == "erm"


def test_a_reference_needs_runs(tmp_path, capsys):
    study(tmp_path / "s", {"kd": of(KD)})
    assert report.main([str(tmp_path / "s"), "--reference=x"]) == 2
    assert "--reference: of runs" in capsys.readouterr().err


def test_adapted_evaluations_are_a_section_of_their_own(tmp_path, capsys):
    """Of one name over all runs; the runs' own figures stay as they were, and no difference mixes the two."""
    folder, planned = tmp_path / "s", [("kd", "erm", "robust")]
    study(folder, {"kd": of(KD), "erm": of(ERM)}, planned, "erm")
    before = made(tmp_path, folder)
    assert not (tmp_path / "out" / "evaluations").exists()
    tent = {"kind": "tent", "settings": {"adaptation_batch_size": 200, "adaptation_learning_rate": 0.001}}
    for arm, values in (("kd", (80.0, 82.0, 81.0)), ("erm", (80.0, 80.0, 80.0))):
        for seed, value in enumerate(values):
            beside = folder / arm / f"seed{seed}" / "eval"
            write(beside / "tent.json", result(seed, robust=value, adaptation=tent))
            write(beside / "other.json", result(seed, robust=1.0))
    earlier = result(2, robust=1.0, adaptation=tent, params_sha256="of an earlier step")
    write(folder / "erm" / "seed2" / "eval" / "tent.json", earlier)
    other = {**tent, "settings": tent["settings"] | {"adaptation_batch_size": 50}}
    write(folder / "kd" / "seed2" / "eval" / "tent.json", result(2, robust=10.0, adaptation=other))
    capsys.readouterr()
    assert made(tmp_path, folder) == before
    out = capsys.readouterr().out
    assert "trial-tent: 4 of 6 runs. Adapted to the test images: " in out
    assert "left out: kd seed 2, other adaptation than most of its arm" in out
    assert "left out: erm seed 2, of other parameters than the run's own result" in out
    assert "trial-other: 6 of 6 runs. The same students, evaluated once more." in out
    folder = tmp_path / "out" / "evaluations" / "trial-tent" / "tables"
    names = ("arms", "differences")
    arms, differences = (list(csv.DictReader((folder / f"{n}.csv").open(newline=""))) for n in names)
    assert float(pick(arms, arm="kd")["robust_mean"]) == 81 and pick(arms, arm="kd")["n"] == "2"
    row = pick(differences, arm="kd", metric="robust")
    assert (row["n"], float(row["difference"])) == ("2", 1.0)
    assert {row["baseline"] for row in differences} == {"erm"}
