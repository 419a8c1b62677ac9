"""The cache of compiled programs: where it lies, who wins, and that nothing in it can stop a command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from craft_jax.runs import compilation_cache

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from craft_jax.runs import compilation_cache
import jax
compilation_cache.use()
print(jax.config.jax_compilation_cache_dir, jax.jit(lambda x: x * 3 + 1)(2.0))
"""


def compiled(**environment):
    """(the cache's folder by JAX, the result, stderr) of a process that compiles one program."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XDG_"))}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        **{"cwd": ROOT, "env": kept | environment, "capture_output": True, "text": True, "check": True},
    )
    return (*ended.stdout.split(), ended.stderr)


def test_what_is_compiled_is_kept_and_damage_is_no_error(tmp_path):
    folder, result, stderr = compiled(XDG_CACHE_HOME=str(tmp_path))
    kept = list(Path(folder).iterdir())
    assert Path(folder).parent == tmp_path / "craft_jax" / "xla" and kept and not stderr
    for damage in (b"", b"no program", kept[0].read_bytes()[:-20]):
        for file in kept:
            file.write_bytes(damage)
        (Path(folder) / "garbage").write_bytes(b"\x00" * 99)
        assert compiled(XDG_CACHE_HOME=str(tmp_path)) == (folder, result, "")


def test_a_file_in_the_folders_place_is_no_error(tmp_path):
    (tmp_path / "craft_jax").write_text("mine")
    folder, result, stderr = compiled(XDG_CACHE_HOME=str(tmp_path))
    assert (folder, float(result)) == ("None", 7.0) and "without a compilation cache" in stderr
    assert (tmp_path / "craft_jax").read_text() == "mine"


def test_the_users_own_folder_wins(tmp_path):
    own = tmp_path / "own"
    folder, *_ = compiled(XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(own))
    assert folder == str(own) and not (tmp_path / "craft_jax").exists()


@pytest.mark.parametrize("home", ["", "relative"])
def test_without_an_absolute_xdg_cache_home_it_is_below_the_home(home, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compilation_cache.folder().parents[1] == tmp_path / ".cache" / "craft_jax"


def test_another_processor_has_a_folder_of_its_own(monkeypatch):
    here = compilation_cache.folder()
    monkeypatch.setattr(compilation_cache.platform, "machine", lambda: "another")
    assert compilation_cache.folder().parent == here.parent and compilation_cache.folder() != here
