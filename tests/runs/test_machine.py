"""What a record says of the processor."""

from pathlib import Path

import pytest

from craft_jax.runs import machine

TWO = "processor : 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nprocessor : 1\nflags : a\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TWO, "AMD EPYC (family 26, model 2)"),
        ("model name\t: Some Arm core\n", "Some Arm core"),
        ("processor\t: 0\n", "the-platform"),
        (None, "the-platform"),
    ],
)
def test_the_processor_is_told_from_others_of_its_name(monkeypatch, text, name):
    monkeypatch.setattr(Path, "exists", lambda self: text is not None)
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    monkeypatch.setattr(machine.platform, "machine", lambda: "the-platform")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert machine.processor() == f"{name}, 3 cores"
