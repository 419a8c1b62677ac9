"""What is written, and what is refused when it does not fit."""

import hashlib
import json
import os
import resource
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from craft_jax import files
from craft_jax.errors import CheckpointDamaged, CheckpointError
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


def saved(tmp_path, tree, *steps):
    with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in steps:
            checkpoints.save(step, tree)
        checkpoints.wait()


def restored(tmp_path, tree):
    with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
        return checkpoints.restore(abstract(tree))


def test_a_state_comes_back_whole(tmp_path):
    saved(tmp_path, state(), 7)
    step, back = restored(tmp_path, state())
    assert step == 7
    assert jax.tree.structure(back) == jax.tree.structure(state())
    jax.tree.map(np.testing.assert_array_equal, back, state())


def test_a_state_may_be_donated_while_it_is_written(tmp_path):
    tree = {"student": jnp.arange(3_000_000, dtype=jnp.float32)}
    step = jax.jit(lambda tree: jax.tree.map(lambda x: -x, tree), donate_argnums=0)
    with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(1, tree)
        tree = step(tree)
        checkpoints.wait()
        _, back = checkpoints.restore(abstract(tree))
    np.testing.assert_array_equal(back["student"], np.arange(3_000_000, dtype=np.float32))


def test_only_the_newest_are_kept(tmp_path):
    saved(tmp_path, state(), 1, 2, 3)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]


def test_an_unfinished_step_is_no_step(tmp_path):
    saved(tmp_path, state(), 7)
    unfinished = tmp_path / "checkpoints" / "8.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "7", unfinished)
    assert checkpoint.restore_student(tmp_path)[1] == 7
    assert unfinished.exists()  # reading a run changes nothing in it
    with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(abstract(state()))[0] == 7
        until = time.monotonic() + 10
        while unfinished.exists() and time.monotonic() < until:  # Orbax clears away in the background
            time.sleep(0.02)
    assert not unfinished.exists()


def test_a_save_that_fails_says_so(tmp_path):
    tree = {"noise": jax.random.normal(jax.random.key(0), (100, 100))}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as a full disk
    try:
        with (
            pytest.raises(CheckpointError, match="File too large"),  # on closing, again
            checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints,
        ):
            checkpoints.save(1, tree)
            with pytest.raises(
                CheckpointError, match=r"/checkpoints: a checkpoint cannot be written .*too large"
            ):
                checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(CheckpointError, match="empty"):
        checkpoint.restore_student(tmp_path)


def test_what_earlier_versions_wrote_is_read(tmp_path, capsys):
    with ocp.CheckpointManager(
        tmp_path / "checkpoints",
        options=ocp.CheckpointManagerOptions(max_to_keep=2),
        item_handlers=ocp.StandardCheckpointHandler(),
    ) as old:
        for step in (6, 7):
            old.save(step, args=ocp.args.StandardSave(state()))
    (tmp_path / "config.json").write_text("{}")
    step, back = restored(tmp_path, state())
    assert capsys.readouterr().err.endswith("/7 is of an older version, which noted no checksums\n")
    assert step == 7
    jax.tree.map(np.testing.assert_array_equal, back, state())
    np.testing.assert_array_equal(checkpoint.restore_student(tmp_path)[0]["params"]["kernel"], [0, 1, 2])
    saved(tmp_path, state(), 8)  # and goes on beside it
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["7", "8"]
    (tmp_path / "config.json").unlink()
    files.write_json(tmp_path / "config.json", {})  # of this version, whose steps have checksums
    shutil.rmtree(tmp_path / "checkpoints" / "8")
    with pytest.raises(CheckpointDamaged, match=r"/7: damaged.*its checksums are gone"):
        checkpoint.restore_student(tmp_path)


def test_a_mismatch_lists_every_leaf(tmp_path):
    saved(tmp_path, state(), 7)
    other = state(width=5)
    other["method"] = {"heads": jnp.zeros(1)}
    with pytest.raises(CheckpointError) as error:
        restored(tmp_path, other)
    lines = str(error.value).splitlines()
    assert lines[1:] == [
        "missing: method/heads float32(1,)",
        "unexpected: method/projections/0 float32(2, 2)",
        "differs: student/params/kernel is float32(3,), should be float32(5,)",
    ]


def arrays(directory):
    """The file that holds the arrays' values."""
    return max(directory.rglob("ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("harm", "cause"),
    [
        (lambda step: cut_short(arrays(step)), "ValueError: OUT_OF_RANGE: .*not valid for value of size"),
        (lambda step: arrays(step).unlink(), "ValueError: DATA_LOSS: .*shard"),
        (lambda step: cut_short(step / "default" / "_METADATA"), "JSONDecodeError: "),
        (lambda step: (step / "default" / "_METADATA").unlink(), "FileNotFoundError: .*metadata"),
        (lambda step: cut_short(step / "default" / "manifest.ocdbt"), "ValueError: DATA_LOSS: .*manifest"),
        (lambda step: shutil.rmtree(step / "default"), "FileNotFoundError: "),
    ],
)
def test_damage_is_named_with_its_cause(tmp_path, harm, cause):
    saved(tmp_path, state(width=30_000), 7)  # smaller arrays lie in the index
    harm(tmp_path / "checkpoints" / "7")
    for read in (
        lambda: restored(tmp_path, state(width=30_000)),
        lambda: checkpoint.restore_student(tmp_path),
    ):
        with pytest.raises(CheckpointError, match=rf"/7: damaged; move it away .*\({cause}") as error:
            read()
        assert "\n" not in str(error.value)


def flipped(path, index=-1):
    """One bit of a file is another: of its middle byte, or of the one given."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if index < 0 else index] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_noticed(tmp_path):
    """TensorStore takes it for another number: kept apart from compression, that is any bit of an array."""
    files.write_json(tmp_path / "config.json", {})
    saved(tmp_path, state(width=30_000), 7)
    step = tmp_path / "checkpoints" / "7"
    flipped(arrays(step))
    for read in (
        lambda: restored(tmp_path, state(width=30_000)),
        lambda: checkpoint.restore_student(tmp_path),
    ):
        with pytest.raises(CheckpointDamaged, match="/7: damaged"):
            read()
    assert step.exists(), "there is nothing to go on from in its place"


def test_the_newest_whole_step_is_gone_on_from(tmp_path, capsys):
    files.write_json(tmp_path / "config.json", {})
    with checkpoint.Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (6, 7, 8):
            checkpoints.save(step, state() | {"step": jnp.int32(step)})
        checkpoints.wait()
    shutil.rmtree(tmp_path / "checkpoints" / "7")
    shutil.copytree(tmp_path / "checkpoints" / "6", tmp_path / "checkpoints" / "7")
    flipped(tmp_path / "checkpoints" / "8" / "default" / "manifest.ocdbt")
    with checkpoint.Checkpoints(tmp_path, keep=3) as checkpoints:
        step, back = checkpoints.restore(abstract(state()))
        assert step == 6 == back["step"]
        notes = capsys.readouterr().err.splitlines()
        assert len(notes) == 2 and "/8: damaged" in notes[0] and "it is of step 6" in notes[1], notes
        assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["7", "8"]
        checkpoints.save(7, state())
        checkpoints.wait()
    assert restored(tmp_path, state())[0] == 7
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["6", "7"]


def test_no_checksums_is_damage(tmp_path):
    files.write_json(tmp_path / "config.json", {})
    saved(tmp_path, state(), 7)
    (tmp_path / "checkpoints" / "7" / "_CHECKPOINT_METADATA").unlink()
    with pytest.raises(CheckpointDamaged, match="checksums are gone"):
        restored(tmp_path, state())


def wrapped(cause):
    """As Orbax wraps what TensorStore raises."""
    error = Exception("Encountered error while reading array index")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied"), r"may not read it.*\(PermissionError: .*denied\)"),
        (wrapped(ValueError("PERMISSION_DENIED: Error reading x")), r"may not read it.*\(ValueError: PERM"),
        (MemoryError(), r"memory .*ran out.*\(MemoryError\)"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"),
            r"memory .*ran out.*\(JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes\.\)$",
        ),
        (OSError(5, "Input/output error"), r"cannot be read now.*\(OSError: .*Input/output error\)"),
        (wrapped(ValueError("UNAVAILABLE: try later")), r"cannot be read now.*UNAVAILABLE: try later"),
    ],
)
@pytest.mark.parametrize("call", ["load", "metadata"])
def test_what_is_no_damage_is_not_called_so(tmp_path, monkeypatch, error, told, call):
    saved(tmp_path, state(), 7)

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(checkpoint.ocp, call, fail)
    for read in (lambda: restored(tmp_path, state()), lambda: checkpoint.restore_student(tmp_path)):
        with pytest.raises(CheckpointError, match=f"/7: .*{told}") as refused:
            read()
        assert "damaged;" not in str(refused.value) and "move it away" not in str(refused.value)


def test_the_student_alone_is_read_without_knowing_the_rest(tmp_path):
    saved(tmp_path, state(), 7)
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
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_a_changed_record_is_noticed(tmp_path):
    path = tmp_path / "results.json"
    files.write_json(path, {"b": {3: (1.5, 2)}, "a": "\u00e4"})
    assert files.read_json(path) == {"b": {"3": [1.5, 2]}, "a": "\u00e4"} and files.is_sealed(path)
    text = path.read_text()
    assert json.loads(text)["sha256"] == hashlib.sha256(b'{"a": "\\u00e4", "b": {"3": [1.5, 2]}}').hexdigest()
    path.write_text(text.replace("1.5", "1.4"))
    with pytest.raises(CheckpointError, match=r"results\.json: damaged, or edited by hand"):
        files.read_json(path)
    path.write_text('{"b": 1.4}')
    assert files.read_json(path) == {"b": 1.4} and not files.is_sealed(path)


def test_two_processes_write_the_same_json_at_once(tmp_path, monkeypatch):
    """One writes while the other stands between writing its temporary file and renaming it."""
    path, replace = tmp_path / "results.json", os.replace

    def interrupted(source, target):
        monkeypatch.setattr(os, "replace", replace)
        files.write_json(path, {"writer": 2})
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    files.write_json(path, {"writer": 1})
    assert files.read_json(path) == {"writer": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


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


def test_a_seal_under_another_name_is_noticed(tmp_path):
    path = tmp_path / "results.json"
    files.write_json(path, {"a": 1, "params_sha256": "0" * 64})
    path.write_text(path.read_text().replace('"sha256"', '"sha2u6"'))
    with pytest.raises(CheckpointError, match="its sha256 is there under another name"):
        files.read_json(path)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("_CHECKPOINT_METADATA", '"sha256"', '"sha257"'),
        ("_CHECKPOINT_METADATA", '"custom_metadata"', '"custom_metadatb"'),
        ("_CHECKPOINT_METADATA", '"item_handlers"', '"item_handlerr"'),
        ("default/_METADATA", "jax.Array", "jaw.Array"),
    ],
)
def test_a_garbled_description_is_gone_back_from(tmp_path, file, old, new):
    files.write_json(tmp_path / "config.json", {})
    saved(tmp_path, state(), 6, 7)
    path = tmp_path / "checkpoints" / "7" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert restored(tmp_path, state())[0] == 6
    assert (tmp_path / "damaged" / "7").is_dir()
    saved(tmp_path, state(), 7)
    (tmp_path / "checkpoints" / "6" / file).write_text(text.replace(old, new))
    assert restored(tmp_path, state())[0] == 7, "an older one that is damaged is put aside too"
    assert (tmp_path / "damaged" / "6").is_dir()


def test_an_earlier_student_is_not_taken_for_a_finished_runs(tmp_path):
    files.write_json(tmp_path / "config.json", {})
    saved(tmp_path, state(), 7)
    sha256 = checkpoint.params_sha256(checkpoint.restore_student(tmp_path)[0])
    files.write_json(tmp_path / "results.json", {"status": "done", "params_sha256": sha256})
    checkpoint.restore_student(tmp_path)
    files.write_json(tmp_path / "results.json", {"status": "done", "params_sha256": "of step 8"})
    with pytest.raises(CheckpointDamaged, match=r"step 7, is not the student that results\.json is of"):
        checkpoint.restore_student(tmp_path)
