"""What the tests of the command share: a place where no run begins."""

import pytest

from craft_jax import main


@pytest.fixture
def somewhere(monkeypatch, tmp_path):
    """An empty current directory, where no run may begin unless a test lets it."""

    def begin(*args):
        raise AssertionError("a run began")

    monkeypatch.setattr(main, "train_and_evaluate", begin)
    monkeypatch.setattr(main, "evaluate_workdir", begin)
    monkeypatch.chdir(tmp_path)
    return tmp_path
