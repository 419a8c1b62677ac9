"""Which views each method forwards, and what a run thereby trains on and reads."""

import itertools

import pytest

from craft_jax import methods
from tests.methods.signals import VIEWS, make_config


@pytest.mark.parametrize("count", [0, 1, 2])
def test_views_of_the_baselines(count):
    for settings in VIEWS:
        config = make_config("erm", views__count=count, **settings)
        everything = count + 1
        ce = everything if settings["views__ce_views"] == "all" else 1
        distill = everything if settings["views__distill_views"] == "all" else 1
        own = settings["views__distill_target"] == "own"
        assert methods.METHODS["erm"].views(config) == (ce, 0), "ERM distils nothing"
        assert methods.METHODS["augmix"].views(config) == (everything, 0)
        config.augmix.weight = 0.0
        assert methods.METHODS["augmix"].views(config) == (ce, 0), "then nothing reads the others"
        for name in ("kd", "attkd", "crd"):
            views = methods.METHODS[name].views(config)
            assert views == (max(ce, distill), distill if own else 1), name


@pytest.mark.parametrize("count", [0, 1, 2])
def test_views_of_craft(count):
    """The student's: all, if a term of all views has weight; else what CE and KD read. The teacher's: all."""
    for settings in VIEWS:
        for kd, contrastive, dealign in itertools.product((0.0, 1.0), repeat=3):
            config = make_config(
                "craft",
                views__count=count,
                kd__weight=kd,
                contrastive__weight=contrastive,
                dealign__weight=dealign,
                **settings,
            )
            reads = {settings["views__ce_views"]}
            if kd:
                reads.add(settings["views__distill_views"])
            if contrastive or dealign:
                reads.add("all")
            seen = count + 1 if "all" in reads else 1
            found = methods.METHODS["craft"].views(config)
            assert found == (seen, count + 1), f"{settings}, weights {kd, contrastive, dealign}"


def test_kd_of_weight_zero_forwards_no_view_for_it():
    """Or corrupted images that no loss reads would enter the student's BatchNorm statistics."""
    config = make_config("kd", kd__weight=0.0, views__distill_views="all")
    assert methods.METHODS["kd"].views(config)[0] == 1


# ----------------------------------------------------------------------------------------------------
# What a run trains on, and what it reads


@pytest.mark.parametrize(
    ("method", "settings", "trained"),
    [
        ("erm", {}, False),
        ("erm", {"views__ce_views": "all"}, True),
        ("kd", {}, False),
        ("kd", {"views__distill_views": "all"}, True),
        ("craft", {}, True),
        ("craft", {"views__kind": "augmix"}, False),
        ("erm", {"views__ce_views": "all", "views__kind": "augmix"}, False),
        ("augmix", {}, False),
    ],
)
def test_trained_corruptions(method, settings, trained):
    config = make_config(method, **settings)
    assert methods.trained_corruptions(config) == (list(config.views.corruptions) if trained else [])


VIEW_KEYS = {"views.corruptions", "views.lanes", "views.count"}


@pytest.mark.parametrize(
    ("method", "settings", "unread"),
    [
        ("erm", {}, {"kd.weight", "teacher.epochs", "augmix.severity", *VIEW_KEYS}),
        ("erm", {"views__ce_views": "all"}, {"kd.weight", "teacher.epochs", "augmix.severity"}),
        ("kd", {}, {"augmix.severity", *VIEW_KEYS}),
        ("kd", {"teacher__method": "augmix"}, VIEW_KEYS),  # its teacher reads it
        ("craft", {"views__kind": "augmix"}, {"views.corruptions", "views.lanes"}),
        ("augmix", {}, {"kd.weight", "teacher.epochs", "views.corruptions", "views.lanes"}),
    ],
)
def test_keys_that_a_run_does_not_read(method, settings, unread):
    keys = ["seed", "kd.weight", "teacher.epochs", "augmix.severity", "views.corruptions"]
    keys += ["views.lanes", "views.count", "eval.corruptions"]
    assert set(methods.unread(make_config(method, **settings), keys)) == unread


def test_a_key_of_given_teachers_alone():
    """One trained on the way learns from the run's own data: there is nothing to allow."""
    key = "teacher.allow_other_data"
    assert methods.unread(make_config("kd"), [key, "teacher.cache"]) == [key]
    assert methods.unread(make_config("kd", teacher__checkpoint="DIR"), [key]) == []
    assert methods.unread(make_config("erm", teacher__checkpoint="DIR"), [key]) == [key]
