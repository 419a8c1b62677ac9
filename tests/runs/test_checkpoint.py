"""What is written, and what is refused when it does not fit."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from craft_jax import files
from craft_jax.errors import CheckpointError
from craft_jax.runs import checkpoint


def state(width=3):
    return {
        "step": jnp.int32(7),
        "student": {"params": {"kernel": jnp.arange(width, dtype=jnp.float32)}, "batch_stats": {}},
        "method": {"projections": [jnp.ones((2, 2))]},
        "memory": (),
        "optimizer": (jnp.zeros(2), {"trace": jnp.ones(1)}),
    }


def abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def saved(tmp_path, config, tree, step=7):
    with checkpoint.manager(tmp_path, config) as checkpoints:
        checkpoint.save(checkpoints, step, tree)
        checkpoints.wait_until_finished()


def test_a_state_comes_back_whole(tmp_path, make_config):
    config = make_config()
    saved(tmp_path, config, state())
    with checkpoint.manager(tmp_path, config) as checkpoints:
        assert checkpoints.latest_step() == 7
        back = checkpoint.restore(checkpoints, abstract(state()))
    assert jax.tree.structure(back) == jax.tree.structure(state())
    jax.tree.map(np.testing.assert_array_equal, back, state())


def test_only_the_newest_are_kept(tmp_path, make_config):
    config = make_config(**{"checkpoint.keep": 2})
    with checkpoint.manager(tmp_path, config) as checkpoints:
        for step in (1, 2, 3):
            checkpoint.save(checkpoints, step, state())
        checkpoints.wait_until_finished()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]


def test_a_mismatch_lists_every_leaf(tmp_path, make_config):
    config = make_config()
    saved(tmp_path, config, state())
    other = state(width=5)
    other["method"] = {"heads": jnp.zeros(1)}
    with checkpoint.manager(tmp_path, config) as checkpoints, pytest.raises(CheckpointError) as error:
        checkpoint.restore(checkpoints, abstract(other))
    lines = str(error.value).splitlines()
    assert lines[1:] == [
        "missing: method/heads float32(1,)",
        "unexpected: method/projections/0 float32(2, 2)",
        "differs: student/params/kernel is float32(3,), should be float32(5,)",
    ]


def test_a_damaged_checkpoint_is_named(tmp_path, make_config):
    config = make_config()
    saved(tmp_path, config, state())
    for path in (tmp_path / "checkpoints" / "7" / "default").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with (
        checkpoint.manager(tmp_path, config) as checkpoints,
        pytest.raises(CheckpointError, match=r"/7: damaged"),
    ):
        checkpoint.restore(checkpoints, abstract(state()))


def test_the_student_alone_is_read_without_knowing_the_rest(tmp_path, make_config):
    saved(tmp_path, make_config(), state())
    variables, step = checkpoint.restore_student(tmp_path)
    assert step == 7
    assert list(variables) == ["batch_stats", "params"]
    np.testing.assert_array_equal(variables["params"]["kernel"], [0, 1, 2])


@pytest.mark.parametrize("made", ["", "checkpoints"])
def test_a_directory_without_a_checkpoint_is_refused(tmp_path, made):
    (tmp_path / made).mkdir(exist_ok=True)
    with pytest.raises(CheckpointError, match="--workdir"):
        checkpoint.restore_student(tmp_path)


def test_hash_of_parameters_by_hand():
    variables = {
        "params": {"b": np.float32([1, 2]), "a": {"kernel": np.float32([[3]])}},
        "batch_stats": {"mean": np.float32([4])},
    }
    digest = hashlib.sha256()
    for path, array in [
        ("batch_stats/mean", np.float32([4])),
        ("params/a/kernel", np.float32([[3]])),
        ("params/b", np.float32([1, 2])),
    ]:
        digest.update(f"{path}float32{array.shape}".encode())
        digest.update(array.tobytes())
    assert checkpoint.params_sha256(variables) == digest.hexdigest()
    changed = {**variables, "batch_stats": {"mean": np.float32([5])}}
    assert checkpoint.params_sha256(changed) != digest.hexdigest()


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "results.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("text", [None, "{", ""])
def test_json_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        files.read_json(path)


def test_a_lock_is_held_by_one(tmp_path):
    path = tmp_path / "run" / ".lock"
    second = files.lock(path, wait=False)
    with files.lock(path, wait=False), pytest.raises(CheckpointError, match="another process"):
        second.__enter__()
    with files.lock(path, wait=False):
        pass
