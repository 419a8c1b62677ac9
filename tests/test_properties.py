"""Whatever a configuration, data set, study or record says: it is taken, or refused in words (hypothesis)."""

import contextlib
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs import default
from craft_jax import files
from craft_jax.config import command, tree
from craft_jax.data import npz
from craft_jax.errors import CraftError
from craft_jax.report import studies
from craft_jax.runs import foreign
from craft_jax.study import Arm, Comparison, Study, plan

ROOT = Path(__file__).resolve().parents[1]
ERM = str(ROOT / "configs" / "erm.py")
KEYS = sorted(tree.flatten(default.get_config("")))
TEXTS = st.one_of(
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["True", "False", "", "erm", "craft", "1,2", "(1,)", "fog", "nan", "-0", "1e400", "test"]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["a", "b", "erm", "../x", "teachers", "seed1", "", "a b"])


def asked(function, *args):
    """What a function returns; None where it refuses in words. Anything else that it raises is a fault."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            return function(*args)
        except CraftError as error:
            assert str(error).strip() and error.status == 2
    return None


PROPERTIES = {}


def holds(examples, *strategies):
    """A property of drawn arguments: asked for a few fixed examples, and with --slow for 2,000 others."""

    def add(function):
        PROPERTIES[function.__name__] = (function, strategies, examples)
        return function

    return add


def ask(name, examples, derandomize):
    function, strategies, _ = PROPERTIES[name]
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    settings(
        max_examples=examples,
        deadline=None,
        derandomize=derandomize,
        database=None,
        suppress_health_check=quiet,
    )(given(*strategies)(function))()


@holds(
    25,
    st.lists(st.tuples(st.sampled_from(KEYS), TEXTS), min_size=1, max_size=3),
    st.sampled_from(["train", "eval"]),
)
def configurations(overrides, mode):
    words = [f"--config.{key}={text}" for key, text in overrides]
    options = asked(command.parse, [f"--config={ERM}:smoke", f"--mode={mode}", *words])
    if options:  # taken: every value has its key's type, and comes back from config.json
        flat = tree.flatten(options.config)
        assert {k: type(v) for k, v in flat.items()} == {
            k: type(v) for k, v in tree.flatten(default.get_config("")).items()
        }
        assert not tree.differences(
            tree.from_json(json.loads(json.dumps(tree.to_json(options.config)))), options.config
        )


@holds(
    40,
    st.sampled_from(["u1", "i1", "i8", "u8", "f4", "f8", "?", "c8", "U3", "M8[s]"]),
    st.sampled_from(["u1", "i1", "i8", "u8", "f4", "?", "U1"]),
    st.lists(st.sampled_from([0, 1, 2, 3, 15, 16, 17, 40]), max_size=4),
    st.lists(st.integers(-2, 300), max_size=20),
)
def images_and_labels(image_dtype, label_dtype, sides, labels):
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        path = Path(folder, "d.npz")
        images = np.zeros([len(labels), *sides], image_dtype)
        labels = np.array(labels).astype(label_dtype)
        np.savez(path, train_images=images, test_images=images, train_labels=labels, test_labels=labels)
        source = asked(npz.load, str(path))
    if source:
        assert source.train_images.dtype == np.uint8 and source.train_images.shape[3] == 3
        assert min(source.train_images.shape[1:3]) >= 16
        assert source.num_classes == source.train_labels.max() + 1


ARMS = st.builds(
    Arm,
    st.sampled_from([f"{ERM}:smoke", f"{ERM}:no", "nowhere.py", ""]),
    st.dictionaries(
        st.sampled_from([*KEYS[:8], "kd.weight", "nothing"]), st.integers() | st.text(max_size=4), max_size=2
    ),
    st.lists(st.integers(0, 2), max_size=2).map(tuple),
)


@holds(
    20,
    st.dictionaries(NAMES, ARMS | st.none(), max_size=2),
    st.lists(st.integers(0, 2), max_size=2).map(tuple),
    NAMES,
    st.lists(st.builds(Comparison, NAMES, NAMES, st.sampled_from(["robust", "x"])), max_size=2).map(tuple),
)
def studies_planned(arms, seeds, baseline, comparisons):
    runs = asked(plan.runs, Study(arms, seeds, baseline, comparisons), "out")
    for run in runs or ():
        assert run.workdir.parts == ("out", run.arm, f"seed{run.seed}")


@holds(
    60, JSON | st.fixed_dictionaries(dict.fromkeys(("arms", "runs", "comparisons", "name", "baseline"), JSON))
)
def manifests(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.study.json")
        path.write_text(json.dumps(content))
        asked(studies.read, path)


@holds(
    60,
    st.binary(max_size=64),
    st.sampled_from([b"", b"{", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x10" + bytes(7)]),
)
def any_bytes(content, start):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f")
        path.write_bytes(start + content)
        for read in (files.read_json, files.read_npz, foreign.header):
            asked(read, path)


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    ask(name, PROPERTIES[name][2], derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROPERTIES)
def test_property_at_length(name):
    ask(name, 2000, derandomize=False)
