"""What figures are drawn from, against numbers worked by hand."""

import json

import pytest

from craft_jax.report import __main__ as report
from craft_jax.report import provenance, studies
from craft_jax.report.page import accuracies, corrupted, networks, planned, training
from tests.report.fabricated import result, study, write

KD, ERM = (71.0, 74.0, 72.0), (70.0, 72.0, 69.0)


def of(values, **changes):
    return {seed: result(seed, robust=value, **changes) for seed, value in enumerate(values)}


@pytest.fixture
def read(tmp_path):
    def read(arms, comparisons=(), baseline=""):
        return studies.read(study(tmp_path / "s", arms, comparisons, baseline))

    return read


def values(figure, **wanted):
    rows = figure.spec["data"]["values"]
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def test_without_its_package_the_page_is_named_and_tables_are_written(tmp_path, capsys):
    study(tmp_path / "s", {"kd": of(KD)})
    assert report.main([str(tmp_path / "s"), f"--out={tmp_path / 'out'}"]) == 0
    assert "no page: it needs `pip install -r requirements-report.txt`" in capsys.readouterr().out
    assert (tmp_path / "out" / "tables" / "arms.csv").exists()
    assert not (tmp_path / "out" / "index.html").exists()


def test_means_intervals_and_every_seed(read):
    figure = accuracies.methods(read({"kd": of(KD), "erm": of(ERM[:1])}))
    (mean,) = values(figure, arm="kd", kind="mean", measure="robust")
    half = 4.3026527 * (7 / 3) ** 0.5 / 3**0.5  # t of 2 degrees of freedom
    assert [mean[k] for k in ("value", "low", "high")] == pytest.approx(
        [217 / 3, 217 / 3 - half, 217 / 3 + half]
    )
    assert [row["value"] for row in values(figure, arm="kd", kind="seed", measure="robust")] == list(KD)
    (alone,) = values(figure, arm="erm", kind="mean", measure="robust")
    assert (alone["value"], alone["n"]) == (70.0, 1)
    assert not {"low", "high"} & alone.keys()  # of one seed there is none
    assert "kd 72.3" in figure.alt


def test_a_forest_has_every_pair(read):
    arms = {"kd": of(KD), "erm": of(ERM), "craft": {0: None}}
    figure = planned.figure(read(arms, [("kd", "erm", "robust"), ("craft", "erm", "robust")]))
    assert [row["value"] for row in values(figure, kind="seed")] == [1.0, 2.0, 3.0]
    (mean,) = values(figure, kind="mean")
    half = 4.3026527 / 3**0.5
    assert [mean[k] for k in ("value", "low", "high")] == pytest.approx([2.0, 2 - half, 2 + half])
    assert mean["said"] == ", p = 0.15"  # 2 (1 - P(T < 2 sqrt 3)) = 0.0742, of two planned
    assert "craft less erm, robust: seed 0: craft not done yet" in figure.missing


def test_a_single_pair_has_no_interval_over_seeds(read):
    arms = {"kd": of(KD[:1]), "erm": of(ERM[:1])}
    (mean,) = values(planned.figure(read(arms, [("kd", "erm", "robust")])), kind="mean")
    assert (mean["value"], mean["n"]) == (1.0, 1) and not {"low", "high"} & mean.keys()


def test_weights_are_told_where_all_runs_have_the_same(read):
    half = {"config": {"eval": {"primary_weights": [0.5, 0.5]}}}
    assert accuracies.primary(read({"kd": of(KD, **half)})).says.startswith("0.5 of clean and 0.5 of robust")
    mixed = read({"kd": of(KD, **half), "erm": of(ERM)})
    assert accuracies.primary(mixed).says.startswith("a weighted mean of clean and robust accuracy; the")


def test_every_arm_less_every_other_over_the_seeds_of_both(read):
    figure = accuracies.pairwise(read({"kd": of(KD), "erm": of(ERM[:2])}))
    (cell,) = values(figure, arm="kd", baseline="erm", measure="robust")
    assert (cell["value"], cell["n"]) == (1.5, 2)
    (cell,) = values(figure, arm="erm", baseline="kd", measure="robust")
    assert cell["value"] == -1.5


def test_differences_to_the_baseline_by_corruption(read):
    arms = {"kd": of(KD, corruptions={"fog": [80.0, None, 70.0, None, 60.0]}), "erm": of(ERM)}
    for one, level in zip(arms["erm"].values(), (75.0, 65.0, 55.0), strict=True):
        one["corruptions"] = {"fog": [level, None, level, None, level]}
    figure = corrupted.against_baseline(read(arms, baseline="erm"))
    (row,) = values(figure, arm="kd")
    assert row["value"] == pytest.approx(70 - 65) and row["corruption"] == "fog"


def log(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 9, "epo')


def test_curves_are_means_over_seeds_within_their_range(tmp_path, read):
    found = read({"craft": of(KD[:2])})
    for run, shift in zip(found.runs, (0.0, 4.0), strict=True):
        lines = [{"step": s, "epoch": s / 2, "loss": s + shift, "loss/ce": 1.0} for s in range(1, 5)]
        lines[-1] |= {"clean_accuracy": 80.0 + shift}
        lines += [{"step": 5, "nan_count": 1}]
        log(run.path.with_name("metrics.jsonl"), lines)
    figures = {figure.name: figure for figure in training.figures(found)}
    course = [
        (r["epoch"], r["value"], r["low"], r["high"]) for r in values(figures["curves"], measure="loss")
    ]
    assert course == [(s / 2, s + 2.0, s, s + 4.0) for s in range(1, 5)]
    (end,) = values(figures["curves"], measure="clean accuracy, %")
    assert (end["epoch"], end["value"]) == (2.0, 82.0)
    assert [row["value"] for row in values(figures["terms"], measure="ce")] == [1.0] * 4
    assert figures["reliability"].missing == "no arm weighs by reliability"


def test_long_logs_become_sixty_points(tmp_path, read):
    (run,) = read({"craft": of(KD[:1])}).runs
    log(
        run.path.with_name("metrics.jsonl"), [{"step": s, "epoch": s / 600, "loss": s} for s in range(1, 601)]
    )
    binned = training._binned(training.read(run.path), "loss", 1.0)
    assert len(binned) == 60 and binned[1.0] == sum(range(591, 601)) / 10


def test_the_histogram_of_r_is_of_the_end_of_training(read):
    found = read({"craft": of(KD[:1])})
    counts = [[10, 0, 0, 0] for _ in range(18)] + [[0, 1, 0, 3]] * 2
    lines = [{"step": s, "epoch": s, "reliability_histogram": c} for s, c in enumerate(counts, 1)]
    log(found.runs[0].path.with_name("metrics.jsonl"), lines)
    rows = values(training.figures(found)[2])
    assert [(r["from"], r["to"], r["share"]) for r in rows] == [
        (0, 0.25, 0),
        (0.25, 0.5, 25),
        (0.5, 0.75, 0),
        (0.75, 1, 75),
    ]


def test_what_is_missing_is_named_in_its_place(read):
    found = read({"kd": {0: None}}, baseline="kd")
    every = [
        planned.figure(found),
        *accuracies.figures(found),
        *training.figures(found),
        *networks.figures(found),
    ]
    assert [figure.name for figure in every if figure.spec or not figure.missing] == []


def test_a_stopped_run_is_counted_where_it_was_not_finite(read):
    arms = {
        "kd": of(KD[:1])
        | {1: result(1, status="stopped", stopped_at_step=5, stopped_terms=["loss/ce"], nan_count=1)}
    }
    arms["kd"][0]["nan_count"] = 0
    figure = training.nan_counts(read(arms))
    assert [(row["seed"], row["value"]) for row in values(figure)] == [(0, 0), (1, 1)]


def test_where_figures_come_from(read):
    changes = {
        "device": "1 x cpu",
        "commit": "abc",
        "overlap": ["fog"],
        "data": {"fingerprint": "f", "test_examples": 16},
    }
    one, other = of(KD[:2], **changes).values()
    found = read(
        {"kd": {0: one | {"date": "2026-01-02T03:04:05"}, 1: other | {"date": "2026-01-05T03:04:05"}}}
    )
    lines = provenance.lines(found)
    assert lines[0] == "n: 2 runs, seeds 0, 1" and "dates: 2026-01-02 to 2026-01-05" in lines
    assert "hardware: 1 x cpu" in lines and "commit: abc" in lines and "draws: d" in lines
    (marks,) = (line for line in lines if line.startswith("marks"))
    assert "regenerated corruptions" in marks and "overlap: trained and evaluated on fog" in marks
    assert "data digits" in marks and "student resnet8" in marks
    assert "1 of 15 corruptions, 2 of 5 severities, 8 of 16 test images" in marks
    row = dict(zip(provenance.COLUMNS, provenance.table(found).rows[0], strict=True))
    assert row["configuration"] == provenance.configuration(other) and len(row["configuration"]) == 10


def test_a_configuration_is_known_but_for_its_seed():
    one, same = result(0), result(1)
    assert provenance.configuration(one) == provenance.configuration(same)
    assert provenance.configuration(one) != provenance.configuration(result(0, config={"method": "kd"}))


@pytest.mark.parametrize(
    ("config", "is_same"),
    [
        ({"eval": {"max_examples": 7}}, False),
        ({"eval": {"batch_size": 9}}, True),
        ({"data": {"name": "digits", "dir": "there"}}, True),
        ({"epochs": 200}, True),  # as the default, which an older version may have lacked
        ({"epochs": 2}, False),
    ],
)
def test_a_configuration_is_what_it_changes_in_the_defaults(config, is_same):
    own = provenance.configuration(result(0, config=config))
    assert (own == provenance.configuration(result(0))) == is_same


def test_adaptation_and_a_cue_are_marks():
    tent = {"kind": "tent", "settings": {"adaptation_batch_size": 200, "adaptation_learning_rate": 0.001}}
    cue = {"fingerprint": "f", "cue": {"kind": "corner", "correlation": 0.9}}
    marks = provenance.marks(result(0), result(1, adaptation=tent, data=cue))
    assert "adapted to the test images: tent (batch_size 200, learning_rate 0.001)" in marks
    assert "spurious cue on every image: corner cue 0.9" in marks


def test_updates_left_out_are_a_mark_of_runs_that_finished():
    assert "7 updates that were not finite were left out" in provenance.marks(
        result(0, nan_count=4), result(1, nan_count=3), result(2, nan_count=1, status="non-finite")
    )
    assert not any("left out" in mark for mark in provenance.marks(result(0, nan_count=0)))


def test_a_network_costs_what_its_run_measured(read):
    cost = {"parameters": 10, "flops": 20, "latency_ms": {"1": 0.5, "128": None}}
    rows = values(networks.efficiency(read({"kd": of(KD[:1], cost=cost)})))
    assert {(row["measure"], row["cost"]) for row in rows} == {
        ("parameters", 10),
        ("FLOPs of an image", 20),
        ("latency of 1 image, ms", 0.5),
    }


def test_lines_that_a_disk_harmed_are_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "ep\xefch": 1}\n{"step": 2, "epoch": 2}\n\xff\n')
    assert training.read(tmp_path / "results.json") == [{"step": 2, "epoch": 2}]


def test_kept_results_have_their_curves_beside_them(tmp_path):
    path = tmp_path / "kd-seed0-abc.json"
    write(path, result(0))
    log(path.with_suffix(".jsonl"), [{"step": 1, "epoch": 1.0, "loss": 2.0}])
    assert training.read(path) == [{"step": 1, "epoch": 1.0, "loss": 2.0}]
