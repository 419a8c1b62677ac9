"""Where a run was resumed, and which code a result is of, told by Git."""

import shutil
import subprocess

import pytest

from craft_jax.errors import CheckpointError
from craft_jax.runs import results


def test_resumes_are_sealed_and_those_of_older_versions_are_read(tmp_path):
    path = tmp_path / "resumes.json"
    assert results.record_resume(tmp_path, 0) == [] and not path.exists()
    path.write_text("[4]")
    assert results.record_resume(tmp_path, 8) == [4, 8]
    assert results.record_resume(tmp_path, 12) == [4, 8, 12]
    path.write_text(path.read_text().replace("8", "9", 1))
    with pytest.raises(CheckpointError, match=r"resumes\.json: damaged"):
        results.record_resume(tmp_path, 16)
    for other in ("{}", "3", '["4"]'):
        path.write_text(other)
        with pytest.raises(CheckpointError, match=r"resumes\.json: not a list of steps"):
            results.record_resume(tmp_path, 16)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with code and a file in results/, and a function that calls Git in it."""
    for name in ("craft_jax/runs/results.py", "results/study.json", "configs/erm.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")

    def git(*words):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    monkeypatch.setattr(results, "__file__", str(tmp_path / "craft_jax" / "runs" / "results.py"))
    return tmp_path, git


@pytest.mark.skipif(shutil.which("git") is None, reason="no git on PATH")
def test_a_commit_is_dirty_where_code_differs_and_not_where_results_do(checkout):
    place, git = checkout
    commit = results.commit.__wrapped__  # not the first answer again
    assert commit() is None  # no checkout
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")[:12]
    assert commit() == head
    (place / "results" / "study.json").write_text("2\n")
    (place / "notes.txt").write_text("not tracked\n")
    assert commit() == head
    (place / "configs" / "erm.py").write_text("2\n")
    assert commit() == f"{head}-dirty"
