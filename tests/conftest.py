"""What the tests share: a network and a data set small enough to train in seconds."""

# ruff: noqa: E402 (what comes before an import must)

import atexit
import dataclasses
import functools
import hashlib
import http.server
import importlib
import os
import shutil
import tempfile
import threading

# Most of the suite's time would be XLA compiling the same small programs again: tests, and the processes
# that they start, share one cache of them for the length of a session. Set before JAX is imported.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="craft_jax_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# Compiled in haste, which takes a quarter less time; CI tests the steps' numbers (test_golden.py) also as a
# run compiles.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jaxtyping

# Every annotated shape and type of the rooms that compute is checked, in each call of each test.
_CHECKED = ("losses", "corruptions", "models", "views", "methods", "evaluation", "training")
jaxtyping.install_import_hook([f"craft_jax.{room}" for room in _CHECKED], "beartype.beartype")

import numpy as np
import pytest

# Helpers that assert say what they compared, as tests do. Before they are imported.
pytest.register_assert_rewrite("tests.config.commands", "tests.losses.checks", "tests.methods.references")

from configs import erm
from craft_jax import data, models
from craft_jax.models.resnet import ResNet

TINY = functools.partial(ResNet, 8, stem=4, widths=(4, 4, 8))
# Those of which a whole step is tested; the sum is of all others, which so cost one step together.
CONFIGS = ("erm", "augmix", "kd", "attkd", "crd", "craft", "combined")
SUMMED = ("fitnets", "sp", "rkd", "pkt", "nst", "vid", "dkd", "dist")


def some_slow(values, quick):
    """Parameters of which those that are not `quick` are marked slow."""
    return [v if v in quick else pytest.param(v, marks=pytest.mark.slow) for v in values]


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also what is marked slow: minutes more")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session", autouse=True)
def tiny_network():
    """A ResNet-8 of 4 and 8 channels, by the name "tiny" for the length of the session."""
    models.REGISTRY["tiny"] = TINY
    yield
    del models.REGISTRY["tiny"]


@pytest.fixture(scope="session")
def digits():
    return small_digits()


def small_digits():
    """The embedded digits at 16x16: 72 training and 40 test images."""
    config = erm.get_config("smoke")
    whole = data.load(config)
    return dataclasses.replace(
        whole,
        train_images=np.ascontiguousarray(whole.train_images[:72, ::2, ::2]),
        train_labels=whole.train_labels[:72],
        test_images=np.ascontiguousarray(whole.test_images[:40, ::2, ::2]),
        test_labels=whole.test_labels[:40],
        fingerprint=hashlib.sha256(b"tests").hexdigest(),
    )


def small_config(method="erm", **overrides):
    """A run of 12 steps on the tiny network; overrides are {"dotted.key": value}."""
    config = importlib.import_module(f"configs.{method}").get_config("smoke")
    settings = {
        "student.name": "tiny",
        "teacher.name": "tiny",
        "teacher.epochs": 1,
        "batch_size": 16,
        "teacher.batch_size": 16,
        "epochs": 3,  # 4 steps each
        "crd.negatives": 40,
        "combined.methods": SUMMED,
        "views.corruptions": ("speckle_noise", "gaussian_blur"),
        "views.severities": (3,),
        "eval.corruptions": ("contrast",),
        "eval.severities": (5,),
        "eval.max_examples": 0,
        "eval.batch_size": 16,
        "checkpoint.every_steps": 4,
        "log.every_steps": 1,
        "log.progress": False,
        "log.tensorboard": False,
    }
    for key, value in (settings | overrides).items():
        section, _, leaf = key.rpartition(".")
        (config[section] if section else config)[leaf] = value
    return config


@pytest.fixture
def make_config(tmp_path):
    """`small_config` whose teachers lie in the test's own directory."""
    return functools.partial(small_config, **{"teacher.cache": str(tmp_path / "teachers")})


@pytest.fixture
def without_hook(monkeypatch):
    """The package as users run it: what it says itself of wrong shapes and types."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A web server on this machine: (its folder, its address)."""
    folder = tmp_path_factory.mktemp("served")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
