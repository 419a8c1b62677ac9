"""Weights of other code: every tensor to its place and back, and what is refused, in words."""

import json
import re
import struct

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from craft_jax import models
from craft_jax.errors import CheckpointError, CraftError
from craft_jax.runs import export, foreign, predict, weights


def abstract(network, num_classes=10):
    model = models.build(network, num_classes, dtype="float32", mean=(0.5,) * 3, std=(0.25,) * 3)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), (1, 32, 32, 3)))


@pytest.fixture(scope="module")
def resnet8():
    return abstract("resnet8")


def state_dict(num_classes=10):
    """A resnet8 as PyTorch has it, written out: names, shapes (out, in, height, width), random values."""
    rng = np.random.default_rng(0)

    def norm(name, channels):
        kinds = ("weight", "bias", "running_mean", "running_var")
        yield from ((f"{name}.{kind}", rng.uniform(0.5, 1.5, channels)) for kind in kinds)
        yield f"{name}.num_batches_tracked", np.array(7)

    def parts():
        yield "conv1.weight", rng.normal(size=(16, 3, 3, 3))
        yield from norm("bn1", 16)
        for layer, (before, after) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
            block = f"layer{layer}.0"
            yield f"{block}.conv1.weight", rng.normal(size=(after, before, 3, 3))
            yield from norm(f"{block}.bn1", after)
            yield f"{block}.conv2.weight", rng.normal(size=(after, after, 3, 3))
            yield from norm(f"{block}.bn2", after)
            if layer > 1:
                yield f"{block}.downsample.0.weight", rng.normal(size=(after, before, 1, 1))
                yield from norm(f"{block}.downsample.1", after)
        yield "fc.weight", rng.normal(size=(num_classes, 64))
        yield "fc.bias", rng.normal(size=num_classes)

    return {n: x if x.dtype == np.int64 else x.astype(np.float32) for n, x in parts()}


@pytest.fixture
def written(tmp_path):
    """written(tensors): the path of a safetensors file that holds them."""

    def written(tensors):
        save_file({n: np.ascontiguousarray(x) for n, x in tensors.items()}, tmp_path / "net.safetensors")
        return tmp_path / "net.safetensors"

    return written


def read(path, wanted, network="resnet8"):
    return foreign.read(path, foreign.mapping(path, network, foreign.header(path), wanted))


def test_every_tensor_finds_its_place_and_the_way_back(written, resnet8, tmp_path):
    tensors = state_dict()
    found = read(written(tensors), resnet8)
    jax.tree.map(lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)), found, resnet8)
    block, theirs = found["params"]["group2_block1"], "layer2.0"
    kernel = block["conv1"]["kernel"]
    assert kernel[0, 2, 5, 30] == tensors[f"{theirs}.conv1.weight"][30, 5, 0, 2]
    assert block["shortcut_norm"]["scale"][3] == tensors[f"{theirs}.downsample.1.weight"][3]
    stats = found["batch_stats"]["group2_block1"]["norm2"]
    assert stats["mean"][4] == tensors[f"{theirs}.bn2.running_mean"][4]
    assert stats["var"][4] == tensors[f"{theirs}.bn2.running_var"][4]
    assert found["params"]["head"]["kernel"][9, 2] == tensors["fc.weight"][2, 9]

    config = type("Config", (), {"student": type("Student", (), {"name": "resnet8"})})
    student = predict.Predictor(None, found, config, 7, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    export.write_torch(student, tmp_path / "export")
    from safetensors.numpy import load_file

    back = load_file(tmp_path / "export" / "torch.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)


def test_other_types_prefixes_and_our_own_export(written, resnet8):
    tensors = state_dict()
    expected = read(written(tensors), resnet8)
    half = {f"module.{n}": x.astype(np.float16) if x.ndim else x for n, x in tensors.items()}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        read(written(half), resnet8),
        expected,
    )
    path = written(weights.leaves(expected))
    assert foreign.mapping(path, "resnet8", foreign.header(path), resnet8).convention == "craft_jax"
    jax.tree.map(np.testing.assert_array_equal, read(path, resnet8), expected)


def test_what_is_left_over_is_listed_on_both_sides(written, resnet8):
    tensors = state_dict(num_classes=100)
    del tensors["layer3.0.bn2.running_var"]
    tensors["layer4.0.conv1.weight"] = np.zeros((2, 2), np.float32)
    tensors["embeddings.mask_token"] = np.zeros(2, np.float32)  # a DINOv2's may be left over, no other's
    tensors["bn1.weight"] = np.zeros(16, np.int32)
    path = written(tensors)
    with pytest.raises(CheckpointError) as error:
        read(path, resnet8)
    assert str(error.value).split("\n") == [
        f"{path} is not a resnet8 under the names of RepDistiller:",
        "  in the file, with no place in the network: 2",
        "    'embeddings.mask_token' F32(2,)",
        "    'layer4.0.conv1.weight' F32(2, 2)",
        "  in the network, not in the file: 1",
        "    batch_stats/group3_block1/norm2/var (as layer3.0.bn2.running_var)",
        "  of another shape or type: 3",
        "    'fc.bias' F32(100,), should be (10,)",
        "    'fc.weight' F32(100, 64), should be (10, 64)",
        "    'bn1.weight' I32(16,); allowed: F64, F32, F16, BF16",
    ]


def test_a_long_list_is_cut(written, resnet8):
    path = written({f"x{i}": np.zeros(1, np.float32) for i in range(30)})
    with pytest.raises(
        CheckpointError, match=r"(?s)no place in the network: 30.*\.\.\. and 10 more.*: 4\d\n"
    ):
        read(path, resnet8)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fc.bias", np.nan, "fc.bias holds values that are not finite"),
        ("conv1.weight", np.inf, "conv1.weight holds values that are not finite"),
        ("bn1.running_var", -1.0, "bn1.running_var, a variance, holds negative values"),
    ],
)
def test_values_that_no_network_has(written, resnet8, name, value, said):
    tensors = state_dict()
    tensors[name].flat[0] = value
    with pytest.raises(CheckpointError, match=said):
        read(written(tensors), resnet8)


def hostile(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


HUGE = {"fc.bias": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
OVERLAP = {
    name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in ("conv1.weight", "bn1.weight")
}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not readable as safetensors"),
        (b"\x08", "not readable as safetensors"),
        (struct.pack("<Q", 1 << 62) + b"{}", "not readable as safetensors"),
        (hostile(b"{"), "not readable as safetensors"),
        (hostile(HUGE), "not readable as safetensors"),
        (hostile(OVERLAP, bytes(8)), "not readable as safetensors"),
        (b"PK\x03\x04 a zip, as torch.save writes", "a pickle, which can run code and is not read here"),
        (b"\x80\x02ccollections", "a pickle, which can run code and is not read here"),
    ],
    ids=["empty", "short", "header too long", "no JSON", "too large", "overlapping", "zip", "pickle"],
)
def test_files_that_are_none(tmp_path, content, said):
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(said)):
        foreign.header(tmp_path / "net.safetensors")


@pytest.mark.parametrize("second", [2, 5])
def test_a_header_as_long_as_a_pickle_begins_is_none(tmp_path, second):
    header = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    content = hostile(json.dumps(header).encode().ljust(second * 256 + 128), bytes(4))
    assert content[:2] == bytes([0x80, second])
    (tmp_path / "net.safetensors").write_bytes(content)
    assert foreign.header(tmp_path / "net.safetensors") == {"w": foreign.Tensor((1,), "F32")}


def test_names_of_tensors_cannot_write_to_a_terminal(written, resnet8):
    path = written({"\x1b[2Jw" + 300 * "a": np.zeros(1, np.float32)})
    with pytest.raises(CheckpointError) as error:
        read(path, resnet8)
    assert "\x1b" not in str(error.value) and f"    '\\x1b[2Jw{195 * 'a'}' F32(1,)" in str(error.value)


def test_no_file_a_folder_and_one_cut_short(written, tmp_path):
    for path, said in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(CheckpointError, match=f"cannot be read .{said}"):
            foreign.header(path)
    path = written(state_dict())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="not readable as safetensors"):
        foreign.header(path)


def test_a_network_without_names_in_pytorch_is_not_exported(tmp_path):
    config = type("Config", (), {"student": type("Student", (), {"name": "tiny"})})
    student = predict.Predictor(None, {"params": {}, "batch_stats": {}}, config, 0, (), ())
    with pytest.raises(CraftError, match="has a network 'tiny'"):
        export.write_torch(student, tmp_path)
