"""What a teacher has to give: by hand-worked cases, and of a network with known features."""

import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from craft_jax import diagnosis, models
from tests.conftest import small_config

SETTINGS = SimpleNamespace(alpha=2.0, beta=1.0, gamma=0.5)


def test_auroc_counts_pairs():
    scores, right = np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False])
    assert diagnosis.auroc(scores, right) == pytest.approx(100 * (2 + 1 + 0.5) / 4)  # one pair of four a tie
    assert diagnosis.auroc(scores, np.ones(4, bool)) is diagnosis.auroc(scores, np.zeros(4, bool)) is None


def test_the_score_of_three_images():
    sure, torn, wrong = [[9.0, 0.0], [9.0, 0.0]], [[9.0, 0.0], [0.0, 9.0]], [[0.0, 1.0], [0.0, 1.0]]
    found = diagnosis.scored(np.float32([sure, torn, wrong]), np.array([0, 0, 0]), SETTINGS)
    assert (found["clean"], found["corrupted"]) == pytest.approx((200 / 3, 100 / 3))
    assert found["agreement"] == pytest.approx(100 * (1 + 0.5 + 1) / 3)

    def entropy(logit):
        p = 1 / (1 + math.exp(-logit))
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    expected = [
        1 / (1 + math.exp(-(2.0 * (agree - 0.5) - entropy(logit))))
        for agree, logit in ((1.0, 9.0), (0.5, 9.0), (1.0, 1.0))
    ]
    assert found["r"]["mean"] == pytest.approx(sum(expected) / 3, abs=1e-6)
    assert found["entropy"] == pytest.approx((2 * entropy(9.0) + entropy(1.0)) / 3, abs=1e-6)
    # The first image alone is right in both views; agreement ties it with the third, the oracle with none.
    assert [found["auroc"]["every view"][name] for name in ("agreement", "oracle")] == [75.0, 100.0]
    # The second is right on the clean view too, and agrees least.
    assert [found["auroc"]["clean view"][name] for name in ("agreement", "oracle")] == [25.0, 100.0]


def test_what_a_corruption_moves():
    shifts = np.array([[3.0, 4.0], [3.0, -4.0]])  # mean (3, 0), squares 25
    found = diagnosis.movement(shifts)
    assert (found["length"], found["mean shift"]) == pytest.approx((5.0, 100 * 9 / 25))
    assert diagnosis.movement(np.zeros((2, 2))) == {"length": 0.0, "mean shift": 0.0}


def test_directions_that_corruptions_share():
    axes = np.eye(12)
    moved = {  # of equal weight, however long
        "a": np.array([10 * axes[0], 10 * axes[0], 10 * axes[1], 10 * axes[0]]),  # 3/4 along 0, 1/4 along 1
        "b": np.array([axes[1], axes[2]]),  # half along 1, half along 2
    }
    clean = np.array([axes[2], -axes[2], axes[0] / 2, -axes[0] / 2])  # they differ along 2 first, then 0
    found = diagnosis.directions(clean, moved, ("a",), ("b",))
    # Together: 0.75 along 0, 0.25 + 0.5 along 1, 0.5 along 2, of 2; b in a's first direction: nothing.
    first = {"all": 37.5, "own": 50.0, "clean": 50.0, "trained": 0.0}
    assert found["parts"]["1"] == pytest.approx(first, abs=1e-9)
    assert found["parts"]["4"]["all"] == found["parts"]["4"]["own"] == pytest.approx(100.0)
    means = np.array([[7.5, 2.5, 0.0], [0.0, 0.5, 0.5]])
    cosine = means[0] @ means[1] / np.linalg.norm(means[0]) / np.linalg.norm(means[1])
    assert (found["dimensions"], found["cosine"]) == (12, pytest.approx(cosine))
    still = {"a": moved["a"], "b": np.zeros((2, 12))}
    alone = diagnosis.directions(clean, still, ("b",), ("a", "b"))
    assert alone["cosine"] is None and set(alone["parts"]["1"]) == {"all", "own", "clean"}
    assert diagnosis.directions(clean, still, ("a",), ("b",)) is None


@pytest.fixture
def taught(monkeypatch, digits):
    model = models.build("tiny", 10, dtype="float32", mean=digits.mean, std=digits.std, precision="default")
    variables = jax.device_get(model.init(jax.random.key(0), (1, 16, 16, 3)))
    teacher = SimpleNamespace(model=model, variables=variables, record={"params_sha256": "t"})
    monkeypatch.setattr(diagnosis.data, "load", lambda config: digits)
    monkeypatch.setattr(diagnosis.teachers, "load", lambda workdir, dataset, config: teacher)
    return lambda **changes: small_config(
        "craft", **{"teacher.checkpoint": "there", "dealign.weight": 1.0, **changes}
    )


def test_a_teacher_is_looked_at(taught, digits):
    found = diagnosis.of_teacher(taught(), 40)
    assert found["score"]["training"]["examples"] == found["score"]["test"]["examples"] == 32  # whole batches
    assert set(found["movement"]) == {"speckle_noise", "gaussian_blur", "contrast"}
    assert set(found["directions"]["parts"]["8"]) == {"all", "own", "clean", "trained"}
    said = diagnosis.text(json.loads(json.dumps(found)))
    assert (
        "AUROC, clean view: oracle" in said
        and "| contrast" in said
        and "evaluated, in those of the trained %" in said
    )


def test_views_that_are_no_corruptions_have_no_first_directions(taught):
    found = diagnosis.of_teacher(taught(**{"views.kind": "augmix"}), 16)
    assert set(found["movement"]) == {"contrast"} and "trained" not in found["directions"]["parts"]["1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config=configs/kd.py:smoke"], "config.method: 'kd'; allowed: 'craft'"),
        (
            ["--config=configs/craft.py:smoke", "--config.views.count=0"],
            "config.views.count: 0; allowed: 1 or",
        ),
        (["--config=configs/craft.py:smoke"], "config.teacher.checkpoint: not set"),
        (
            ["--config=configs/craft.py:smoke", "--config.teacher.checkpoint=nowhere"],
            "nowhere",
        ),
    ],
)
def test_what_cannot_be_looked_at(words, message, capsys):
    assert diagnosis.main([*words, "--config.compilation_cache=False"]) == 2
    assert message in capsys.readouterr().err


def test_fewer_images_than_a_batch(taught):
    for examples in (8, -20):
        with pytest.raises(diagnosis.ConfigError, match=rf"--examples: {examples}, of 72 training .*16"):
            diagnosis.of_teacher(taught(), examples)
