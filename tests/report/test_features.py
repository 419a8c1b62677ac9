"""Features of a student beside its teacher's: CKA by loops, by what it must not notice, and of a run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import corruptions, losses, models, streams
from craft_jax.errors import CheckpointError
from craft_jax.evaluation.images import corruption_keys
from craft_jax.report import __main__ as report
from craft_jax.report import features, studies
from craft_jax.report.page import aligned
from craft_jax.runs import checkpoint, predict
from tests.conftest import small_config
from tests.report.fabricated import result, study, write


def ref_cka(x, y):
    """Kornblith et al. 2019, equation 3 with linear kernels: HSIC of centred Gram matrices, by loops."""
    n = len(x)

    def centred(z):
        gram = [[sum(a * b for a, b in zip(z[i], z[j], strict=True)) for j in range(n)] for i in range(n)]
        rows = [sum(row) / n for row in gram]
        return [[gram[i][j] - rows[i] - rows[j] + sum(rows) / n for j in range(n)] for i in range(n)]

    def hsic(k, other):
        return sum(k[i][j] * other[i][j] for i in range(n) for j in range(n))

    k, other = centred(x), centred(y)
    return hsic(k, other) / (hsic(k, k) * hsic(other, other)) ** 0.5


def test_cka_against_gram_matrices():
    random = np.random.RandomState(0)
    x, y = random.randn(9, 3), random.randn(9, 5)
    assert features.linear_cka(x, y) == pytest.approx(ref_cka(x.tolist(), y.tolist()), rel=1e-9)


def test_cka_does_not_notice_rotation_scale_and_shift():
    random = np.random.RandomState(1)
    x = random.randn(40, 6)
    rotation, _ = np.linalg.qr(random.randn(6, 6))
    assert features.linear_cka(x, 3 * x @ rotation + 7) == pytest.approx(1.0)
    assert features.linear_cka(x, random.randn(40, 6)) < 0.5
    assert features.linear_cka(x, np.ones((40, 2))) == 0.0


def test_error_by_fragility():
    fragility = np.arange(20)[::-1] / 20
    found = features.against_error(fragility, fragility**2)
    assert found["fragility"][0] == pytest.approx((0 / 20 + 1 / 20) / 2)
    assert found["error"][-1] == pytest.approx(100 * (0.95**2 + 0.9**2) / 2)
    assert found["correlation"] == pytest.approx(1.0)
    assert features.against_error(np.zeros(20), fragility)["correlation"] is None


def cka(value):
    return {"clean": [1.0, 0.9, 0.8], "fog": [[value] * 3, None, None, None, None]}


def test_the_heatmap_is_the_mean_over_the_seeds_that_have_it(tmp_path):
    runs = {seed: result(seed, params_sha256=str(seed)) for seed in range(3)}
    found = studies.read(study(tmp_path, {"kd": runs}))
    parts = {"fragility": [0.1] * 10, "error": [20.0] * 10, "correlation": 0.5}
    for run, sha, value in zip(found.runs, ("0", "1", "of another student"), (0.4, 0.6, 0.0), strict=True):
        own = {"params_sha256": sha, "examples": 8, "cka": cka(value), "fragility": parts}
        write(run.path.with_name("features.json"), own)
    heat, fragile, curve = aligned.figures(found)
    rows = heat.spec["data"]["values"]
    (cell,) = (row for row in rows if row["panel"] == "kd, stage 2" and row["severity"] == "1")
    assert (cell["corruption"], cell["value"], cell["n"]) == ("fog", 0.5, 2)
    assert {row["severity"] for row in rows} == {"clean", "1"}
    assert len(fragile.spec["data"]["values"]) == 20 and "kd +0.50" in fragile.says
    assert curve.spec is None and "did not record" in curve.missing


@pytest.mark.parametrize("own", [[], {"params_sha256": "0"}, {"cka": {"clean": [1.0]}, "examples": 8}])
def test_a_file_that_is_none_of_features_is_named(tmp_path, own):
    found = studies.read(study(tmp_path, {"kd": {0: result(0)}}))
    write(found.runs[0].path.with_name("features.json"), own)
    with pytest.raises(CheckpointError, match=r"seed0/features\.json: not the features of a run"):
        aligned.figures(found)


def test_no_correlation_is_no_rise(tmp_path):
    found = studies.read(study(tmp_path, {"kd": {0: result(0, params_sha256="0")}}))
    parts = {"fragility": [0.1] * 10, "error": [0.0] * 10, "correlation": None}
    own = {"params_sha256": "0", "examples": 8, "cka": cka(1.0), "fragility": parts}
    write(found.runs[0].path.with_name("features.json"), own)
    assert aligned.figures(found)[1].alt == "Error against movement: undefined."


def test_the_calibration_curve_pools_seeds(tmp_path):
    bins = {"count": [0, 4], "confidence": [0.0, 3.0], "correct": [0, 2]}
    other = {"count": [0, 1], "confidence": [0.0, 1.0], "correct": [0, 0]}
    runs = {
        s: result(s, calibration_bins={"clean": b, "corrupted": None}) for s, b in enumerate((bins, other))
    }
    curve = aligned.calibration_curve(studies.read(study(tmp_path, {"kd": runs})))
    (row,) = curve.spec["data"]["values"]
    assert (row["count"], row["confidence"], row["accuracy"]) == (5, 80.0, 40.0)


def test_runs_that_have_no_features_are_refused(tmp_path, capsys):
    assert report.main(["features", str(tmp_path), "--examples=3"]) == 2
    assert "--examples: 3; allowed: 10 or more" in capsys.readouterr().err
    assert report.main(["features", str(tmp_path / "nowhere")]) == 2
    assert "nowhere/config.json: no such file" in capsys.readouterr().err


def test_a_student_that_is_its_own_teacher_is_aligned_everywhere(tmp_path, digits, monkeypatch, capsys):
    config = small_config("erm")
    model = models.build("tiny", 10, dtype="float32", mean=digits.mean, std=digits.std, precision="default")
    variables = jax.device_get(model.init(jax.random.key(0), (1, 16, 16, 3)))
    student = predict.Predictor(model, variables, config, 0, digits.mean, digits.std)
    monkeypatch.setattr(features.predict, "load", lambda workdir: student)
    monkeypatch.setattr(features.data, "load", lambda config: digits)
    monkeypatch.setattr(features.teachers, "known", lambda config, workdir, dataset: student)
    measured = {"data": {"fingerprint": digits.fingerprint}, "draws": streams.DRAWS}
    write(tmp_path / "results.json", result(**measured | {"draws": "other"}))
    assert report.main(["features", str(tmp_path), "--examples=20"]) == 2
    assert "results.json: measured on other draws than there are now" in capsys.readouterr().err
    write(tmp_path / "results.json", result(**measured))
    assert report.main(["features", str(tmp_path), "--examples=20"]) == 0
    found = json.loads((tmp_path / "features.json").read_text())
    assert found["cka"] == {"clean": [1.0] * 3, "contrast": [None] * 4 + [[1.0] * 3]}
    assert (found["params_sha256"], found["examples"]) == (checkpoint.params_sha256(variables), 20)
    clean = np.float32(digits.test_images[:20]) / 255
    outputs, _ = model.apply(variables, jnp.array(clean), False)
    index = np.arange(20)
    seen = corruptions.corrupt(corruption_keys("contrast", 5, index), clean, "contrast", 5)
    moved, _ = model.apply(variables, seen, False)
    shift = losses.embed(moved.stages) - losses.embed(outputs.stages)
    assert np.mean(found["fragility"]["fragility"]) == pytest.approx(
        float(jnp.mean(jnp.linalg.norm(shift, axis=1))), rel=1e-3
    )
    wrong = np.argmax(moved.logits, axis=1) != digits.test_labels[:20]
    assert np.mean(found["fragility"]["error"]) == pytest.approx(100 * np.mean(wrong))
    monkeypatch.setattr(features._Features, "stages", lambda self: [3, 4])
    assert report.main(["features", str(tmp_path), "--examples=20"]) == 2
    assert "a student of 3 stages and a teacher of 4" in capsys.readouterr().err
