"""The figures of a benchmark, by hand and against loops over cells."""

import json

import numpy as np
import pytest

from craft_jax import corruptions
from craft_jax.evaluation import robustness


def figures(accuracy, nll=1.0, ece=0.1, confidence=0.5):
    return {"accuracy": accuracy, "nll": nll, "ece": ece, "confidence_on_errors": confidence}


def random_cells(seed):
    random = np.random.default_rng(seed)
    return {
        (name, s): figures(*random.uniform(0, 100, 1), *random.uniform(0, 1, 3))
        for name in corruptions.TEST
        for s in (1, 2, 3, 4, 5)
    }


def test_summary_against_loops():
    cells = random_cells(0)
    found = robustness.summary(figures(91.0, 0.3, 0.02, 0.6), cells, (0.25, 0.75))
    accuracies = {cell: f["accuracy"] for cell, f in cells.items()}
    robust = sum(accuracies.values()) / 75
    assert found["clean_accuracy"] == 91.0
    assert found["robust_accuracy"] == pytest.approx(robust)
    assert found["mean_corruption_error"] == pytest.approx(100 - robust)
    assert found["primary_metric"] == pytest.approx(0.25 * 91 + 0.75 * robust)
    without = [a for (name, _), a in accuracies.items() if name != "jpeg_compression"]
    assert found["robust_accuracy_without_jpeg"] == pytest.approx(sum(without) / 70)
    assert found["corruptions"] == {
        name: [accuracies[name, s] for s in (1, 2, 3, 4, 5)] for name in corruptions.TEST
    }
    assert found["clean"] == {"nll": 0.3, "ece": 0.02, "confidence_on_errors": 0.6}
    for name in ("nll", "ece", "confidence_on_errors"):
        assert found["corrupted"][name] == pytest.approx(sum(f[name] for f in cells.values()) / 75)
    families = {
        "noise": ["gaussian_noise", "shot_noise", "impulse_noise"],
        "blur": ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur"],
        "weather": ["snow", "frost", "fog", "brightness"],
        "digital": ["contrast", "elastic_transform", "pixelate", "jpeg_compression"],
    }
    families["weather_and_digital"] = families["weather"] + families["digital"]
    for family, members in families.items():
        held = [accuracies[name, s] for name in members for s in (1, 2, 3, 4, 5)]
        assert found["families"].pop(family) == pytest.approx(sum(held) / len(held))
    assert found["families"] == {}
    json.dumps(found)


def test_a_mean_over_nothing_is_none():
    found = robustness.summary(figures(50.0), {}, (0.25, 0.75))
    nothing = ("robust_accuracy", "robust_accuracy_without_jpeg", "mean_corruption_error", "primary_metric")
    assert [found[key] for key in nothing] == [None] * 4
    assert set(found["families"].values()) == {None} and found["corruptions"] == {}
    assert found["corrupted"] == {"nll": None, "ece": None, "confidence_on_errors": None}


def test_cells_without_errors_have_no_confidence_on_them():
    cells = {("fog", 1): figures(100.0, confidence=None), ("fog", 5): figures(40.0, confidence=0.7)}
    found = robustness.summary(figures(100.0), cells, (0.5, 0.5))
    assert found["corrupted"]["confidence_on_errors"] == pytest.approx(0.7)
    assert found["corruptions"] == {"fog": [100.0, None, None, None, 40.0]}
    assert found["families"]["weather"] == pytest.approx(70.0)
    assert found["families"]["weather_and_digital"] == pytest.approx(70.0)
    assert found["families"]["digital"] is None


def test_extras_are_of_no_family():
    families = robustness.by_family({"spatter": [10.0] * 5, "snow": [30.0] * 5})
    assert families["weather"] == families["weather_and_digital"] == 30.0


def result(clean, **table):
    values = [a for row in table.values() for a in row if a is not None]
    return {"clean_accuracy": clean, "robust_accuracy": sum(values) / len(values), "corruptions": table}


def test_mce_by_hand():
    """Errors 10+30 against 20+60, and 40+40 against 50+50; clean errors 5 and 10."""
    own = result(95.0, fog=[90.0, None, None, None, 70.0], snow=[60.0, None, None, None, 60.0])
    reference = result(90.0, fog=[80.0, None, None, None, 40.0], snow=[50.0, None, None, None, 50.0])
    found = robustness.against(own, reference)
    assert found["ce"] == {"fog": pytest.approx(50.0), "snow": pytest.approx(80.0)}
    assert found["mce"] == pytest.approx(65.0)
    # (10-5 + 30-5) / (20-10 + 60-10), (40-5)*2 / ((50-10)*2)
    assert found["relative_ce"] == {"fog": pytest.approx(50.0), "snow": pytest.approx(87.5)}
    assert found["relative_mce"] == pytest.approx(68.75)
    assert found["clean_difference"] == pytest.approx(5.0)
    assert found["robust_difference"] == pytest.approx(70 - 55)
    assert robustness.against(own, own)["mce"] == pytest.approx(100)


def test_a_denominator_of_zero_is_said():
    own = result(95.0, fog=[90.0] * 5)
    perfect = result(100.0, fog=[100.0] * 5)
    found = robustness.against(own, perfect)
    assert found["ce"] == {"fog": None} and found["mce"] is None and found["relative_mce"] is None
    steady = result(80.0, fog=[80.0] * 5)  # corruption costs the reference nothing
    found = robustness.against(own, steady)
    assert found["mce"] == pytest.approx(50.0) and found["relative_mce"] is None
    assert found["robust_difference"] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("accuracies", "relative", "said"),
    [
        ([90.0, None, None, None, 89.4], None, "0.3 under fog"),  # rises of 0 and 0.6
        ([91.0] * 5, None, "-1.0 under fog"),  # better than clean: the ratio would be negative
        ([90.0, None, None, None, 88.0], 1000.0, None),  # rises of 0 and 2: 1 point on average
    ],
)
def test_a_reference_that_loses_next_to_nothing(accuracies, relative, said):
    reference = result(90.0, fog=accuracies, snow=[50.0] * 5)
    table = {"fog": [None if a is None else 80.0 for a in accuracies], "snow": [70.0] * 5}
    found = robustness.against(result(90.0, **table), reference)
    assert found["relative_ce"]["fog"] == (relative and pytest.approx(relative))
    assert found["relative_ce"]["snow"] == pytest.approx(50.0)
    if said:
        assert found["relative_mce"] is None and said in found["relative_mce_undefined"]
        assert "snow" not in found["relative_mce_undefined"]
    else:
        assert found["relative_mce"] == pytest.approx((1000 + 50) / 2)
        assert found["relative_mce_undefined"] is None
    json.dumps(found)


def test_no_relative_error_where_clean_images_are_others():
    own, reference = result(95.0, fog=[90.0] * 5), result(90.0, fog=[80.0] * 5)
    found = robustness.against(own, reference, same_images=False)
    assert found["mce"] == pytest.approx(50.0) and found["relative_mce"] is None
    assert found["relative_mce_undefined"] == "clean and corrupted images are not the same"


def test_calibration_of_a_network_that_is_not_finite():
    logits = np.array([[1.0, 2.0], [np.nan, 0.0], [3.0, 1.0]])
    found = robustness.cell(logits, np.array([1, 1, 0]))
    assert found == {"accuracy": pytest.approx(200 / 3), **dict.fromkeys(robustness.CALIBRATION)}
    broken = {("fog", 1): found, ("fog", 2): figures(50.0)}
    corrupted = robustness.summary(figures(90.0), broken, (0.5, 0.5))["corrupted"]
    assert corrupted["nll"] is None and corrupted["ece"] is None
