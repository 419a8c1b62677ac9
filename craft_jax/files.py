"""Small files: JSON and arrays written whole or not at all, and locks that die with their process.

A JSON object carries the SHA-256 of the rest of it as its last entry, its seal: what a disk or a hand has
changed since is noticed on reading.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from pathlib import Path

import numpy as np

from craft_jax.errors import CheckpointError

SEAL = "sha256"


@contextlib.contextmanager
def whole(path):
    """A path to write to: a reader, or a crash, then meets the old file or the new one, never half of one."""
    temporary = Path(f"{path}.{uuid.uuid4().hex}.tmp")  # two processes may write the same file at once
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path, tree, sealed=True):
    """Write JSON, whole or not at all; an object with its seal, which `read_json` takes off again."""
    tree = json.loads(json.dumps(tree))  # as it will be read: keys are strings, tuples lists
    if sealed and isinstance(tree, dict):
        tree[SEAL] = _seal(tree)
    with whole(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=2) + "\n")


def _seal(tree):
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def copy(source, target):
    """Copy a file, whole or not at all."""
    with whole(target) as temporary:
        shutil.copyfile(source, temporary)


def write_npz(path, arrays):
    """Write {name: array} as a compressed .npz file, whole or not at all."""
    with whole(path) as temporary, open(temporary, "wb") as file:  # given a path, NumPy adds a suffix
        np.savez_compressed(file, **arrays)


def read_json(path):
    """Read a JSON file, without its seal. One of an older version, or of another program, has none.

    Raises:
      CheckpointError: no such file, not JSON, or not what was sealed.
    """
    tree = _parsed(path)
    if not isinstance(tree, dict):
        return tree
    seal = tree.pop(SEAL, None)
    if seal is None and any(_is_seal(tree, key) for key in tree):
        raise CheckpointError(f"{path}: damaged: its {SEAL} is there under another name")
    if seal not in (None, _seal(tree)):
        raise CheckpointError(
            f"{path}: damaged, or edited by hand: its {SEAL} is not that of the rest. "
            f"Without its entry {SEAL!r} it is taken as it is"
        )
    return tree


def _is_seal(tree, key):
    """Whether an entry is the seal of the others."""
    value = tree[key]
    if not isinstance(value, str) or len(value) != hashlib.sha256().digest_size * 2:
        return False
    return value == _seal({other: tree[other] for other in tree if other != key})


def is_sealed(path):
    """Whether a JSON file is of a version that seals what it writes."""
    return SEAL in _parsed(path)


def _parsed(path):
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; is its directory a run's workdir?") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error


def read_npz(path):
    """Read an .npz file as {name: array}; never unpickles.

    Raises:
      CheckpointError: no such file, or not an .npz file of arrays.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays.items())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # a damaged archive raises errors of a dozen kinds
        said = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path}: not readable as an .npz file of arrays ({said})") from error


def check_writable(directory):
    """Make a directory if there is none, and try it: permissions alone do not tell of root or of a full disk.

    Raises:
      CheckpointError: no file can be made in it.
    """
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0")
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be written to ({error.strerror})") from error


def is_locked(path):
    """Whether a process holds the lock file `path` (`lock`)."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def lock(path, wait):
    """Hold a lock file for this process; the operating system lets go when the process dies.

    Args:
      path: the lock file, made with its directory if there is none.
      wait: wait for another holder to finish, or fail.
    Raises:
      CheckpointError: another process holds it and `wait` is False.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")  # noqa: SIM115, closed below
    except OSError as error:
        raise CheckpointError(f"{Path(path).parent}: cannot be written to ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not wait:
                raise CheckpointError(f"{Path(path).parent}: another process is running in it") from error
            print(f"waiting for another process, which holds {path}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
