"""Reports in tests write tables alone: a page takes seconds, and has tests of its own."""

import pytest

from craft_jax.report.page import render


@pytest.fixture(autouse=True)
def without_page(monkeypatch):
    monkeypatch.setattr(render, "is_there", lambda: False)
