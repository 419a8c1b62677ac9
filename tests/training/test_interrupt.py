"""Signals, in small processes of their own: at any time, twice, and not in a library."""

import signal
import subprocess
import sys
import time

import pytest

# The main thread is in C for minutes, and runs no handler: as it is while XLA compiles.
BUSY = """
import hashlib
from craft_jax.training import interrupt
interrupt.listen()
with interrupt.deferring() as defer:
    {begin}
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""
SAID = "\ncraft_jax: interrupted; the same command goes on from the last checkpoint\n"


def start(code):
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def end(process):
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_where_nothing_is_to_be_saved_it_leaves_at_once(number):
    process = start(BUSY.format(begin="pass"))
    process.send_signal(number)
    assert end(process) == (75, SAID)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait_for_the_saving(number):
    process = start(BUSY.format(begin="defer()"))
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)  # the same once more, from another sender
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)  # it waits for the loop
    process.send_signal(number)
    assert end(process) == (128 + number, "")


def test_a_library_leaves_the_signals_to_its_caller():
    code = """
import signal
before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
import craft_jax.main
assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
assert signal.set_wakeup_fd(-1) == -1
print("ready", flush=True)
"""
    assert end(start(code)) == (0, "")
