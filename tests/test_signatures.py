"""Shapes belong in signatures, and what a function does in its docstring: no public function lacks either."""

import ast
import pathlib
import textwrap

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "craft_jax"
ROOMS = ("losses", "models", "views", "corruptions", "methods", "evaluation")  # that compute


def public_functions(tree):
    """(name, node): the functions of a module, and the methods of its classes, that no underscore hides."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from ((f"{node.name}.{name}", method) for name, method in public_functions(node))
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node


def without_docstring(tree):
    return [name for name, node in public_functions(tree) if not ast.get_docstring(node)]


def without_annotation(tree):
    missing = []
    for name, node in public_functions(tree):
        a = node.args
        for arg in filter(None, [*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg]):
            if not arg.annotation and arg.arg not in ("self", "cls"):
                missing.append(f"{name}({arg.arg})")
        if not node.returns:
            missing.append(f"{name} -> ?")
    return missing


def faults(check, folder):
    """What a check finds in each file under a folder, with the file's name."""
    files = sorted(folder.rglob("*.py"))
    assert files
    return [
        f"{path.relative_to(PACKAGE)}: {fault}"
        for path in files
        for fault in check(ast.parse(path.read_text(encoding="utf-8")))
    ]


def test_every_public_function_has_a_docstring():
    assert not faults(without_docstring, PACKAGE)


@pytest.mark.parametrize("room", ROOMS)
def test_every_parameter_and_return_has_an_annotation(room):
    assert not faults(without_annotation, PACKAGE / room)


def test_the_checks_see_what_lacks():
    tree = ast.parse(
        textwrap.dedent('''
        def fine(x: int, *rest: int, y: int, **more: int) -> int:
            """Documented."""
            def inner(x): ...

        def bare(x, *rest, y, **more): ...

        def _hidden(x): ...

        class Public:
            def method(self, x: int): ...
            def _hidden(self, x): ...

        class _Hidden:
            def method(self, x): ...
        ''')
    )
    assert without_docstring(tree) == ["bare", "Public.method"]
    assert without_annotation(tree) == [
        *("bare(x)", "bare(rest)", "bare(y)", "bare(more)", "bare -> ?"),
        "Public.method -> ?",
    ]
