"""A sum of other methods' terms beside one cross-entropy: KD + CRD, KD + attention, CRAFT + CRD.

Each method of the sum is asked as if it ran by itself: it has its own weights, parameters, memory and views,
and the key that it would have alone, so that a sum of one is that method to the bit. All have that one key:
their draws are not independent of each other. KD is in a sum once: beside `kd`, CRAFT gives its other terms
alone, so that plain KD + CRAFT's contrastive term is a sum too.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from craft_jax.errors import MethodError
from craft_jax.methods.common import Method, Terms, cross_entropy


def combined(registry: Mapping[str, Method]) -> Method:
    """The method that adds up those of a registry that `combined.methods` names."""
    names = ("terms", "views", "init", "begin", "check", "reads", "note", "stages", "banks")
    functions = (_terms, _views, _init, _begin, _check, _reads, _note, _stages, _banks)
    return Method(**{name: functools.partial(f, registry) for name, f in zip(names, functions, strict=True)})


def parts(registry: Mapping[str, Method], config: ConfigDict) -> Iterator[tuple[str, Method, ConfigDict]]:
    """(name, Method, its configuration) of each method of the sum."""
    for name in config.combined.methods:
        own = config
        if name == "craft" and "kd" in config.combined.methods:
            own = config.copy_and_resolve_references()
            own.kd.weight = 0.0
        yield name, registry[name], own


def _own(s, name, views):
    """The Signals of one method of the sum: its parameters, its memory, and the views that it asks for."""
    seen, taught = views
    return s._replace(
        student=jax.tree.map(lambda x: x[:, :seen], s.student),
        teacher=jax.tree.map(lambda x: x[:, :taught], s.teacher) if taught else None,
        params=s.params[name],
        memory=s.memory[name],
    )


def _terms(registry, config, s):
    losses, memory, reliability = {"ce": jnp.mean(cross_entropy(config, s))}, {}, None
    for name, method, own in parts(registry, config):
        found = method.terms(own, _own(s, name, method.views(own)))
        added = {term: value for term, value in found.losses.items() if term != "ce"}
        if twice := losses.keys() & added.keys():
            raise MethodError(
                f"config.combined.methods: {name} has a term {', '.join(sorted(twice))}, as one before; "
                "allowed: methods whose terms have names of their own"
            )
        losses |= added
        memory[name] = found.memory
        reliability = reliability if found.reliability is None else found.reliability
    return Terms(losses, reliability, memory)


def _views(registry, config):
    seen, taught = zip(*(method.views(own) for _, method, own in parts(registry, config)), strict=True)
    return max(seen), max(taught)


def _init(registry, config, key, student, teacher, labels):
    """({method: its parameters}, {method: its memory}), as each starts by itself."""
    made = {
        name: method.init(own, key, student, teacher, labels) for name, method, own in parts(registry, config)
    }
    return {name: params for name, (params, _) in made.items()}, {name: m for name, (_, m) in made.items()}


def _begin(registry, config, s):
    memory = dict(s.memory)
    for name, method, own in parts(registry, config):
        if method.begin:
            memory[name] = method.begin(own, _own(s, name, method.views(own)))
    return memory


def _check(registry, config, labels):
    for _, method, own in parts(registry, config):
        method.check(own, labels)


def _reads(registry, config):
    """All that its methods read; of one that does not say, every section."""
    read = (method.reads(own) if method.reads else config for _, method, own in parts(registry, config))
    return ("combined.methods", *itertools.chain(*read))


def _stages(registry, config):
    """All that its methods pair, in one; `methods.check_stages` asks each of them."""
    paired = [method.stages(own) for _, method, own in parts(registry, config)]
    return "all" if "all" in paired else sorted({*itertools.chain(*paired)})


def _banks(registry, config):
    return {*itertools.chain(*(method.banks(own) for _, method, own in parts(registry, config)))}


def _note(registry, config):
    return "; ".join(filter(None, (method.note(own) for _, method, own in parts(registry, config))))
