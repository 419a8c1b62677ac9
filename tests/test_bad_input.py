"""What a user or a hostile file gets wrong, over all commands: one message with the file or key, status 2,
nothing written, no traceback. The keys of a configuration have such tables of their own in tests/config."""

import io
import struct
import time
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import craft_jax
from craft_jax import errors, files, import_weights, main, models, predict, replay
from craft_jax.corruptions import __main__ as corrupt
from craft_jax.errors import CraftError
from craft_jax.models import __main__ as networks
from craft_jax.report import __main__ as report
from craft_jax.runs import checkpoint, export
from craft_jax.study import __main__ as study
from tests.report import fabricated

ROOT = Path(__file__).resolve().parents[1]
PLAIN = f"--config={ROOT / 'configs' / 'erm.py'}"
ERM = f"--config={ROOT / 'configs' / 'erm.py'}:smoke"
RECORDS = {
    "empty": b"",
    "text": b"no JSON",
    "cut short": b'{"status": "done"',
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "nested without end": b"[" * 100_000,
    "a list": b"[]",
    "a number": b"3",
    "null": b"null",
    "of something else": b'{"a": 1}',
    "all but a result": b'{"status": "done", "config": {}, "method": "erm"}',
    "not as sealed": b'{"status": "done", "config": {}, "method": "erm", "sha256": "0"}',
}


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """An empty current directory; nothing that is asked here needs the check of the installation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main.canary, "check", lambda: None)
    monkeypatch.setattr(import_weights.canary, "check", lambda: None)
    for module in (main, replay):
        monkeypatch.setattr(module.compilation_cache, "use", lambda: None)


def refused(capsys, command, *argv):
    """The message of a command that must end as the docstring above says."""
    before, began = sorted(Path.cwd().rglob("*")), time.process_time()
    try:
        status = command(list(argv))
    except SystemExit as stop:  # argparse's own
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2, captured
    assert captured.out == "" and "Traceback" not in captured.err
    assert captured.err.count("craft_jax: ") + captured.err.count(": error: ") == 1
    assert sorted(p for p in Path.cwd().rglob("*") if "__pycache__" not in p.parts) == before
    assert time.process_time() - began < 10
    return captured.err


def load(argv):
    """`craft_jax.load` as a command, for the table."""
    with pytest.raises(CraftError) as error:
        craft_jax.load(*argv)
    print(f"craft_jax: {error.value}", file=__import__("sys").stderr)
    return error.value.status


# ----------------------------------------------------------------------------------------------------
# Records: every command that reads one, times every way in which it is none


READERS = {
    "report FILE": lambda path: (report.main, path("r.json")),
    "report DIR": lambda path: (report.main, str(Path(path("run/results.json")).parent)),
    "report STUDY": lambda path: (report.main, path("x.study.json")),
    "compare": lambda path: (report.main, "compare", path("r.json"), path("s.json")),
    "main --mode=eval": lambda path: (
        main.main,
        "--mode=eval",
        f"--workdir={Path(path('run/config.json')).parent}",
    ),
    "replay": lambda path: (replay.main, str(Path(path("run/config.json")).parent), "--step=1"),
    "export": lambda path: (export.main, str(Path(path("run/config.json")).parent)),
    "load": lambda path: (load, str(Path(path("run/config.json")).parent)),
}


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("reader", READERS)
def test_a_record_that_is_none(capsys, tmp_path, reader, kind):
    def path(name):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(RECORDS[kind])
        return str(tmp_path / name)

    command, *argv = READERS[reader](path)
    if reader in ("export", "load"):
        files.write_json(tmp_path / "run" / "dataset.json", {"num_classes": 10, "mean": [0], "std": [1]})
    message = refused(capsys, command, *argv)
    assert str(tmp_path) in message or "config." in message


@pytest.mark.parametrize(
    "argv",
    [
        (report.main, "nowhere"),
        (report.main, "nowhere.json"),
        (report.main, "x.study.json"),
        (report.main, "compare", "nowhere", "nowhere2"),
        (report.main, "features", "nowhere"),
        (report.main, "features", "nowhere", "--examples=1"),
        (report.main, "gallery", "--out=nowhere/x.png"),
        (report.main, "gallery", "--out=x.gif"),
        (report.main, "gallery", "--data=stars"),
        (report.main, "--out=x"),
        (main.main, "--mode=eval", "--workdir=nowhere"),
        (main.main, "--config=nowhere.py"),
        (main.main, ERM, "--mode=evaluate"),
        (
            main.main,
            ERM,
            "--config.data.name=npz",
            "--config.data.dir=nowhere.npz",
            "--config.data.flip=False",
        ),
        (
            main.main,
            *(ERM, "--config.data.name=folder", "--config.data.dir=nowhere", "--config.data.flip=False"),
            "--config.data.size=16",
        ),
        (main.main, ERM, "--config.data.size=8"),
        (main.main, ERM, "--config.optimizer.skip_nonfinite=-1"),
        (main.main, ERM, "--config.optimizer.skip_nonfinite=inf"),
        (main.main, ERM, "--config.batch_size=1000000"),
        (main.main, ERM, "--config.eval.reference=nowhere"),
        (main.main, ERM, "--config.eval.source=cifar10_c", "--config.eval.dir=nowhere"),
        (replay.main, "nowhere", "--step=1"),
        (replay.main, "nowhere"),
        (replay.main, "nowhere", "--step=one"),
        (export.main, "nowhere"),
        (export.main, "nowhere", "--formats=onnx,pickle"),
        (predict.main, "nowhere", "x.png"),
        (predict.main, "nowhere", "x.png", "--top=0"),
        (corrupt.main, "nowhere", "out", "--severity=3"),
        (corrupt.main, "nowhere", "out", "--severity=3", "--names=rain"),
        (import_weights.main, "nowhere.safetensors", "--network=resnet8", "--data=digits", "--out=x", PLAIN),
        (import_weights.main, "f", "--network=resnet9", "--data=digits", "--out=x"),
        (import_weights.main, "f", "--network=resnet8", "--data=stars", "--out=x"),
        (import_weights.main, "f", "--network=resnet8", "--data=digits", "--out=."),
        (import_weights.main, "f", "--network=resnet8", "--data=digits", "--out=x", "--mean=1,2"),
        (import_weights.main, "f", "--network=resnet8", "--data=digits", "--out=x", "--std=0,1,1"),
        (networks.main, "resnet9"),
        (networks.main, "--side=0"),
        (networks.main, "--num_classes=none"),
        (study.main, "nowhere.py", "--out=x"),
        (study.main, "nowhere.py"),
        (study.main, "nowhere.py", "--out=x", "--jobs=0"),
        (study.main, "nowhere.py", "--out=x", "--minutes=-1"),
        (study.main, "nowhere.py", "--out=x", "--config.kd.weight"),
        (load, "nowhere"),
    ],
    ids=lambda argv: f"{argv[0].__module__.removeprefix('craft_jax.')} {' '.join(argv[1:])}",
)
def test_arguments_that_cannot_be(capsys, argv):
    command, *words = argv
    message = refused(capsys, command, *words)
    parts = [part for word in words for part in word.lstrip("-").removeprefix("config.").split("=")]
    assert any(part in message for part in parts) or "arguments are required: --" in message


# ----------------------------------------------------------------------------------------------------
# Study files


STUDY = """
from craft_jax.study import Arm, Comparison, Study
def get_study(preset):
    arms = {{"a": Arm("{root}/configs/erm.py:smoke"){arms}}}
    return Study(arms, seeds=({seeds}), baseline={baseline!r}{more})
"""


def study_text(arms="", seeds="0,", baseline="a", more=""):
    return STUDY.format(root=ROOT, arms=arms, seeds=seeds, baseline=baseline, more=more)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "get_study"),
        ("1 / 0", "ZeroDivisionError"),
        ("def get_study(", "SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("def get_study(preset): return 3", "get_study returned int"),
        ("def get_study(): return 3", "TypeError"),
        (study_text(seeds=""), "arm a: no seeds"),
        (study_text(seeds="1, 1"), "arm a: a seed twice"),
        (study_text(baseline="b"), "baseline: 'b' is no arm; allowed: a"),
        (study_text(arms=', "../b": Arm("x.py")'), "arm '../b': allowed: 1 to 100"),
        (study_text(arms=', "teachers": Arm("x.py")'), "arm 'teachers': allowed"),
        (study_text(arms=', "b": "x.py"'), "arm b: str; allowed: a study.Arm"),
        (study_text(arms=', "b": Arm("x.py")'), "arm b: --config: no file 'x.py'"),
        (study_text(more=', comparisons=(Comparison("a", "a", "robust"),)'), "comparisons: a with itself"),
        (study_text(more=', comparisons=(Comparison("a", "b", "robust"),)'), "comparisons: 'b' is no arm"),
        (study_text(more=', comparisons=("a",)'), "comparisons: 'a'; allowed"),
    ],
)
def test_study_files(capsys, tmp_path, text, said):
    (tmp_path / "s.py").write_text(text)
    assert said in refused(capsys, study.main, "s.py", "--out=runs")


# ----------------------------------------------------------------------------------------------------
# Arrays


def npy(shape, descr="|u1", data=b""):
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


GOOD = {
    "train_images.npy": npy((40, 16, 16), data=bytes(40 * 256)),
    "test_images.npy": npy((4, 16, 16), data=bytes(4 * 256)),
    "train_labels.npy": npy((40,), data=bytes([0, 1] * 20)),
    "test_labels.npy": npy((4,), data=bytes([0, 1, 0, 1])),
}
BAD_ARRAYS = {
    "a terabyte claimed": (
        {"train_images.npy": npy((1 << 32, 16, 16))},
        "claims 1099511627776 bytes, it has 0",
    ),
    "one byte too few": ({"test_labels.npy": npy((4,), data=bytes(3))}, "claims 4 bytes, it has 3"),
    "objects": ({"test_labels.npy": npy((4,), "|O", b"cos\nsystem\n(S'touch x'\ntR.")}, "allow_pickle"),
    "no array": ({"test_labels.npy": b"text"}, "test_labels"),
    "header that is code": (
        {"test_labels.npy": b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os')".ljust(32)},
        "test_labels",
    ),
    "floats": ({"test_labels.npy": npy((4,), "<f4", bytes(16))}, "dtype float32"),
    "no labels": ({"test_labels.npy": npy((0,))}, "not alike"),
    "sides of 8": ({"train_images.npy": npy((40, 8, 8), data=bytes(40 * 64))}, "at least 16"),
    "name that climbs": (
        {"../../test_labels.npy": b"", "test_labels.npy": npy((3,), data=bytes(3))},
        "not alike",
    ),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_npz_data_sets(capsys, tmp_path, kind):
    members, said = BAD_ARRAYS[kind]
    zipped(tmp_path / "d.npz", GOOD | members)
    words = ("--config.data.name=npz", "--config.data.dir=d.npz", "--config.data.flip=False")
    message = refused(capsys, main.main, ERM, "--workdir=run", *words)
    assert "data.dir=d.npz" in message and said in message
    assert not (tmp_path / "x").exists()


def test_an_npz_that_unpacks_to_more_than_the_memory(capsys, tmp_path, monkeypatch):
    zipped(tmp_path / "d.npz", GOOD)
    files.check_npz(tmp_path / "d.npz")
    assert files.read_npz(tmp_path / "d.npz")["train_images"].shape == (40, 16, 16)
    monkeypatch.setattr(files, "memory", lambda: 5000)
    with pytest.raises(
        errors.CheckpointError, match=r"d\.npz: .*unpacked .* this machine has 5000 of memory"
    ):
        files.read_npz(tmp_path / "d.npz")


@pytest.mark.parametrize(
    "content", [b"", b"{}", struct.pack("<Q", 1 << 60) + b"{}", b"PK\x03\x04", b"\x80\x04."]
)
def test_safetensors(capsys, tmp_path, content):
    (tmp_path / "net.safetensors").write_bytes(content)
    words = ("--network=resnet8", "--data=digits", "--out=x", PLAIN)
    assert "net.safetensors: " in refused(capsys, import_weights.main, "net.safetensors", *words)


def test_a_checkpoint_that_claims_more_than_the_memory():
    with pytest.raises(ValueError, match="it claims 17592186044416 bytes"):
        checkpoint._check_size({"a": jax.ShapeDtypeStruct((1 << 42,), np.float32)})


def test_a_large_json_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LARGEST_JSON", 3)
    (tmp_path / "r.json").write_text("{   }")
    with pytest.raises(
        errors.CheckpointError, match=r"r\.json: not readable as JSON \(5 bytes; allowed: 3\)"
    ):
        files.read_json(tmp_path / "r.json")


# ----------------------------------------------------------------------------------------------------
# What is shown of it


def test_debug_shows_where(capsys):
    assert main.main(["--config=nowhere.py", "--debug"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and "craft_jax: --config: no file 'nowhere.py'" in err


def test_a_terminal_gets_no_control_characters(capsys, tmp_path):
    assert errors.printable("a\n\tä\x1b[2J\x9b\u202e\x7f") == "a\n\tä\\x1b[2J\\x9b\\u202e\\x7f"
    assert str(errors.ConfigError("x\x1b]0;y\x07")) == "x\\x1b]0;y\\x07"
    path = fabricated.write(tmp_path / "r.json", fabricated.result(method="\x1b[2Jerm"))
    assert report.main([path]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\\x1b[2Jerm" in out


def test_nothing_on_a_load_path_unpickles():
    """No module of the package names pickle's loaders, or lets NumPy use them."""
    for path in (ROOT / "craft_jax").rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text and "allow_pickle=True" not in text, path
        assert "shell=True" not in text and "os.system" not in text, path
    assert models.REGISTRY
