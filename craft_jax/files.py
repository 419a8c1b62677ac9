"""Small files: JSON and arrays written whole or not at all, and locks that die with their process.

Of several processes of a run the writer alone writes (`processes`): in the others nothing here does.

A JSON object carries the SHA-256 of the rest of it as its last entry, its seal: what a disk or a hand has
changed since is noticed on reading.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
import uuid
import zipfile
from pathlib import Path

import numpy as np

from craft_jax import processes
from craft_jax.errors import CheckpointError

SEAL = "sha256"
_LARGEST_JSON = 2**27  # bytes; the largest that is written here has less than one in a hundred of them
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@contextlib.contextmanager
def whole(path):
    """A path to write to: a reader, or a crash, then meets the old file or the new one, never half of one."""
    if not processes.is_writer():
        yield Path(os.devnull)
        return
    temporary = Path(f"{path}.{uuid.uuid4().hex}.tmp")  # two processes may write the same file at once
    try:
        with writing(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path):
    """Name the place that the operating system does not let be written: its disk is full, say.

    Raises:
      CheckpointError: in place of an OSError from inside.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror or error}); what was saved before is kept, and the "
            "same command goes on from it once this is put right"
        ) from error


def write_json(path, tree, sealed=True):
    """Write JSON, whole or not at all; an object with its seal, which `read_json` takes off again.

    Raises:
      CheckpointError: it cannot be written.
    """
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
        if (size := Path(path).stat().st_size) > _LARGEST_JSON:
            raise ValueError(f"{size} bytes; allowed: {_LARGEST_JSON}")
        return json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; is its directory a run's workdir?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error


def read_npz(path):
    """Read an .npz file as {name: array}; never unpickles.

    Raises:
      CheckpointError: no such file, or not an .npz file of arrays.
    """
    try:
        check_npz(path)
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays.items())
        if strangers := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{strangers[0]} is no array")
        return found
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # a damaged archive raises errors of a dozen kinds
        said = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path}: not readable as an .npz file of arrays ({said})") from error


def memory():
    """Bytes of main memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_npz(path):
    """Check what an .npz file claims to hold before room is made for any of it: its arrays' headers say how
    much, a zip file's index how much there is, and a few bytes can be packed so as to fill any memory.

    Raises:
      ValueError: an array's header claims another size than it has, or all have more than the memory.
      OSError, zipfile.BadZipFile: the file cannot be read, or is no zip file.
    """
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
        if total > memory():
            raise ValueError(f"unpacked it would have {total} bytes; this machine has {memory()} of memory")
        for member in archive.infolist():
            try:
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    # 3.0 is of records with names outside Latin-1: none that is read here.
                    header = _HEADERS.get(version, lambda file: ((-1,), None, np.dtype("u1")))
                    shape, _, dtype = header(file)
                    claimed, has = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
            except Exception:  # no array, or a damaged one: `np.load` too stops at its header
                continue
            # Objects are pickled, of any length: `np.load` refuses them.
            if claimed != has and not dtype.hasobject:
                raise ValueError(f"{member.filename}: its header claims {claimed} bytes, it has {has}")


def check_writable(directory):
    """Make a directory if there is none, and try it: permissions alone do not tell of root or of a full disk.

    Raises:
      CheckpointError: no file can be made in it.
    """
    if not processes.is_writer():
        return
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

    Of several processes of a run all call it: the writer holds the file, and the others go on once it does.

    Args:
      path: the lock file, made with its directory if there is none.
      wait: wait for another holder to finish, or fail.
    Raises:
      CheckpointError: another process holds it and `wait` is False.
    """
    with contextlib.ExitStack() as held:
        processes.decided(lambda: held.enter_context(_locked(path, wait)))
        yield


@contextlib.contextmanager
def _locked(path, wait):
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
