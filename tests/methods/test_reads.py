"""That what `unread` says is so: each key of a method's sections is changed, and what is traced compared.

A step reads a configuration through four doors: how many views are forwarded, which are made, what state
the method starts with, and its terms. A key without effect must leave all four as they are; any other must
change one. Nothing is compiled, and no network is traced.
"""

import functools
import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import methods, views
from craft_jax.config import ranges, tree
from craft_jax.mesh import make_mesh
from craft_jax.models import Outputs
from tests.conftest import some_slow

BATCH, CLASSES = 16, 10
SECTIONS = ("views", "augmix", "kd", "attention", "crd", "contrastive", "dealign", "reliability")
FIELD = ("fitnets", "sp", "rkd", "pkt", "nst", "vid", "dkd", "dist")  # methods of their section's name
# Of these sections and of "data", what acts outside the step: on the data, and on what may be evaluated.
OUTSIDE = ("views.allow_overlap", "data.name", "data.dir", "data.size", "data.validation", "data.max_train")
OUTSIDE += ("data.cue", "data.cue_correlation", "data.streaming", "data.memory_gb", "data.workers")
OUTSIDE += ("data.test_crop",)
# What `views.make` is given to read, and no more: to read another key would be an error here.
OF_VIEWS = (
    *("data.crop", "data.crop_padding", "data.crop_scale", "data.flip"),
    *("views.kind", "views.corruptions", "views.severities", "views.lanes"),
    *("augmix.severity", "augmix.width", "augmix.depth", "augmix.alpha"),
)

MATCHED = {"views.ce_views": "all", "views.distill_views": "all"}
ZERO = {"kd.weight": 0.0, "contrastive.weight": 0.0, "dealign.weight": 0.0}
CASES = {
    "erm": ("erm", {}),
    "erm, matched": ("erm", MATCHED),
    "erm, matched, no views": ("erm", MATCHED | {"views.count": 0}),
    "augmix": ("augmix", {}),
    "augmix, no weight": ("augmix", {"augmix.weight": 0.0}),
    "kd": ("kd", {}),
    "kd, no views": ("kd", {"views.count": 0}),
    "kd, matched": ("kd", MATCHED),
    "kd, matched, clean target": ("kd", MATCHED | {"views.distill_target": "clean"}),
    "kd, matched, no views": ("kd", MATCHED | {"views.count": 0}),
    "kd, matched, AugMix's views": ("kd", MATCHED | {"views.kind": "augmix"}),
    "kd, no weight": ("kd", MATCHED | {"kd.weight": 0.0}),
    "attkd": ("attkd", {}),
    "attkd, no weight": ("attkd", {"attention.weight": 0.0}),
    "crd": ("crd", {}),
    "crd, of the batch": ("crd", {"crd.bank": "batch"}),
    "crd, no weight": ("crd", {"crd.weight": 0.0}),
    "craft": ("craft", {}),
    "craft, matched": ("craft", MATCHED),
    "craft, no views": ("craft", {"views.count": 0}),
    "craft, no views, no contrast": ("craft", MATCHED | {"views.count": 0, "contrastive.weight": 0.0}),
    "craft, no KD": ("craft", {"kd.weight": 0.0}),
    "craft, no contrast": ("craft", {"contrastive.weight": 0.0}),
    "craft, no de-alignment": ("craft", {"dealign.weight": 0.0}),
    "craft, no weights": ("craft", ZERO),
    "craft, shuffled": ("craft", {"reliability.source": "shuffled"}),
    "craft, oracle": ("craft", {"reliability.source": "oracle"}),
    **{name: (name, {}) for name in FIELD},
    "vid, no weight": ("vid", {"vid.weight": 0.0}),
    "dkd, no warm-up": ("dkd", {"dkd.warmup": 0.0}),
    "a sum": ("combined", {"combined.methods": ("kd", "crd")}),
    "a sum with CRAFT": ("combined", {"combined.methods": ("kd", "craft")}),
    "a sum, one part of no weight": ("combined", {"combined.methods": ("kd", "crd"), "crd.weight": 0.0}),
}


def changed(key, value):
    """Another value of a key."""
    special = {
        "views.corruptions": ("brightness",),
        "views.severities": (5,),
        "views.lanes": 4,
        "data.crop_scale": (0.25, 0.5),
        "contrastive.stages": (1, 3),
        "data.dir": "elsewhere",
        "combined.methods": ("attkd",),
    }
    if key in special:
        return special[key]
    if key in ranges.CHOICES:
        return next(name for name in ranges.CHOICES[key]() if name != value)
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value / 2 + 0.125


def outputs(count, widths):
    """Abstract Outputs with leaves (BATCH, count, ...)."""

    def leaf(*shape):
        return jax.ShapeDtypeStruct((BATCH, count, *shape), jnp.float32)

    return Outputs(leaf(CLASSES), tuple(leaf(4, 4, width) for width in widths), leaf(widths[-1]))


def one_view(tree_):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[2:]), x.dtype), tree_)


def text(function, *arguments):
    """A traced program as text, with its constants, which JAX prints by their shapes alone."""
    program = jax.make_jaxpr(function)(*arguments)
    digest = hashlib.sha256()
    for constant in constants(program):
        digest.update(np.asarray(constant).tobytes())
    return re.sub(r"0x[0-9a-f]+", "", str(program)) + digest.hexdigest()


def constants(part):
    """The arrays in a program and in the programs that it calls."""
    if isinstance(part, list | tuple):
        for each in part:
            yield from constants(each)
    elif hasattr(part, "eqns"):
        yield from getattr(part, "consts", ())
        for equation in part.eqns:
            yield from constants(list(equation.params.values()))


@functools.cache
def views_text(count, settings):
    """What makes `count` views under settings, (key, value) pairs."""
    nested = {}
    for (section, leaf), value in ((key.split("."), value) for key, value in settings):
        nested.setdefault(section, {})[leaf] = value
    config = tree.from_json(nested)
    key, images = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((BATCH, 16, 16, 3), "uint8")
    return text(lambda a, b, x: views.make(a, b, x, count, config, make_mesh()), key, key, images)


def traced(config):
    """What a step is made of, as text."""
    method = methods.METHODS[config.method]
    seen, taught = method.views(config)
    student, teacher = outputs(seen, (4, 4, 8)), outputs(taught, (4, 6, 8)) if taught else None
    labels = np.arange(72) % CLASSES
    shapes = [one_view(student), one_view(teacher or student)]
    state = jax.eval_shape(lambda key: method.init(config, key, *shapes, labels), jax.random.key(0))

    def terms(student, teacher, state, rows, key, progress):
        s = methods.Signals(rows, student, teacher, *state, index=rows, key=key, progress=progress)
        return method.terms(config, s)

    rows = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    flat = tree.flatten(config)
    return (
        (seen, taught),
        str(state),
        text(terms, student, teacher, state, rows, jax.random.key(0), jax.ShapeDtypeStruct((), jnp.float32)),
        views_text(max(seen, taught), tuple((key, flat[key]) for key in OF_VIEWS)),
    )


def assigned(config, key, value):
    config = config.copy_and_resolve_references()
    section, leaf = key.split(".")
    config[section][leaf] = value
    return config


@pytest.mark.parametrize("case", some_slow(CASES, [case for case in CASES if CASES[case][0] not in FIELD]))
def test_a_key_without_effect_changes_nothing_and_any_other_something(make_config, case):
    method, settings = CASES[case]
    config = make_config(method, **{"views.corruptions": ("contrast",), "views.lanes": 8} | settings)
    before, wrong = traced(config), {}
    # To save traces: of the field's methods their own sections alone, of a sum those of its methods.
    own = {"combined": ("combined", "kd", "crd", "contrastive", "dealign", "reliability")}
    sections = ("views", method) if method in FIELD else own.get(method, (*SECTIONS, "data"))
    for key, value in tree.flatten(config).items():
        if key.partition(".")[0] not in sections or key in OUTSIDE:
            continue
        without = methods.unread(config, [key]) == [key]
        same = traced(assigned(config, key, changed(key, value))) == before
        if without != same:
            wrong[key] = "changes the step" if without else "changes nothing"
    assert wrong == {}
