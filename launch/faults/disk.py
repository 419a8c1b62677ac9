"""Trainings on disks that fill up, or cannot be written to; then given room, resumed, and compared.

    python launch/chaos.py disk --config=configs/craft.py:smoke [--n=20] [--seed=0] [--out=runs/disk]

Each run lies on a disk of its own in memory, mounted for this process alone (root's right, Linux): of a size
at which it fills up somewhere between the run's first file and its last, for every fourth one read-only. The
run must end with status 2 and one message that names a path on that disk, or not need the room. The disk is
then made larger, and the same command must go on to the same end, bit for bit, as an undisturbed run.

The last line says N/N bit-identical; the exit status is 0 if so, 1 if not.
"""

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from craft_jax import files
from launch.faults import kills

_CLONE_NEWNS, _ROOM = 0x00020000, 2**30
_READ_ONLY_EVERY = 4


def main(argv):
    options = _parse(argv)
    out = Path(options.out)
    common = [f"--config={options.config}", f"--config.teacher.cache={out.absolute() / 'teachers'}"]
    common += [*options.words, "--config.log.progress=False"]
    _own_mounts()
    with files.lock(out / ".lock", wait=False):
        shutil.rmtree(out / "undisturbed", ignore_errors=True)
        kills.trained(out / "undisturbed", common)
        size = sum(path.stat().st_size for path in (out / "undisturbed").rglob("*") if path.is_file())
        faults = [_one(out, common, number, size, options.seed) for number in range(options.n)]
    good = faults.count([])
    print(f"{good}/{options.n} bit-identical")
    return 0 if good == options.n else 1


def _parse(argv):
    parser = argparse.ArgumentParser(
        "chaos.py disk", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--config", required=True, help="as for craft_jax.main")
    parser.add_argument("--n", type=int, default=20, help="disks; default 20")
    parser.add_argument("--seed", type=int, default=0, help="of their sizes; default 0")
    parser.add_argument("--out", default="runs/disk", help="directory of the runs; default runs/disk")
    options, options.words = parser.parse_known_args(argv)
    if strange := [word for word in options.words if not word.startswith("--config.")]:
        parser.error(f"{strange[0]}: unknown; allowed: the options above and --config.KEY=VALUE")
    if options.n < 1:
        parser.error(f"--n={options.n}; allowed: at least 1")
    return options


def _own_mounts():
    """What this process mounts from now on is seen by it and its children, and gone when they are."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        sys.exit(
            f"chaos.py: no mounts of its own: {os.strerror(ctypes.get_errno())}; it needs root, on Linux"
        )
    _mount("--make-rprivate", "/")


def _mount(*words):
    subprocess.run(["mount", *words], check=True)


def _one(out, common, number, size, seed):
    """What was wrong with one run on a disk of its own, as lines."""
    random = np.random.default_rng([seed, number])
    disk = out.absolute() / "disk"
    disk.mkdir(exist_ok=True)
    read_only = number % _READ_ONLY_EVERY == _READ_ONLY_EVERY - 1
    room = int(random.uniform(2**14, 1.2 * size))  # tmpfs counts whole pages: more is needed than the sizes
    _mount("-t", "tmpfs", "-o", f"size={room}" + (",ro" if read_only else ""), "chaos", str(disk))
    try:
        done = kills.started(disk / "run", common)
        faults = [] if done.returncode == 0 else _badly_told(done, str(disk))
        _mount("-o", f"remount,rw,size={_ROOM}", str(disk))
        again = kills.started(disk / "run", common)
        if again.returncode:
            faults.append(f"did not go on: {again.stderr.splitlines()[-1:]}")
        else:
            faults += kills.differences(disk / "run", out / "undisturbed")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    how = "read-only" if read_only else f"{room} bytes"
    told = next((line for line in done.stderr.splitlines() if line.startswith("craft_jax: ")), "it had room")
    print(f"disk {number}, {how}: {told.replace(str(disk), 'DISK')}; {faults or 'bit-identical'}", flush=True)
    return faults


def _badly_told(done, disk):
    """What is wrong with how a run ended, as lines."""
    faults = [] if done.returncode == 2 else [f"status {done.returncode}"]
    if "Traceback" in done.stderr:
        faults.append("a traceback")
    messages = [line for line in done.stderr.splitlines() if line.startswith("craft_jax: ")]
    if len(messages) != 1 or disk not in messages[0]:
        faults.append(f"{len(messages)} messages, of the path: {disk in ''.join(messages)}")
    return faults
