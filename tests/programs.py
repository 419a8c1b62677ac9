"""What a traced program holds: its operations, those of the programs within it too."""

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def equations(function, *arguments):
    """Every equation of the program of function(*arguments), arrays or shapes."""
    return list(_equations(jax.make_jaxpr(function)(*arguments)))


def precisions(found, name):
    """The set of precisions of the operations of one name: a pair of strings each, of the two factors."""
    asked = [eqn.params["precision"] for eqn in found if eqn.primitive.name == name]
    return {tuple(str(factor) for factor in pair) if pair else pair for pair in asked}


def _equations(program):
    program = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    for eqn in program.eqns:
        yield eqn
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_program):
            if _is_program(value):
                yield from _equations(value)


def _is_program(value):
    return isinstance(value, ClosedJaxpr | Jaxpr)
