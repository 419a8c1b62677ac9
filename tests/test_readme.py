"""The README's example of a new method and its four commands for pictures, run as they stand there."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from craft_jax import methods
from craft_jax.config import reader
from craft_jax.training import train

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture
def forget_methods():
    before = dict(methods.METHODS)
    yield
    methods.METHODS.clear()
    methods.METHODS.update(before)


def test_the_worked_example_of_a_new_method_trains(tmp_path, make_config, digits, forget_methods):
    section = README.split("## Adding a method")[1].split("\n## ")[0]
    (source,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(source.splitlines()) <= 30
    (tmp_path / "my_method.py").write_text(source)
    config = reader.load(f"{tmp_path / 'my_method.py'}:smoke", [("gaps.weight", "50")])
    for section_name, value in make_config("kd", epochs=1).items():
        if section_name != "method":
            config[section_name] = value
    result = train.train_and_evaluate(config, tmp_path / "run", digits)
    assert result["method"] == "gaps" and result["config"]["gaps"] == {"weight": 50.0}
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    assert "loss/gaps" in last


def test_every_config_and_script_that_the_readme_names_is_there():
    named = set(re.findall(r"(?:configs|launch)/[\w/]+\.(?:py|sh)", README))
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path


COLOURS = {"Möwe": (200, 60, 60), "grüner Frosch": (60, 200, 60), "whale": (60, 60, 200)}
# Behind each of the four commands, so that they take seconds.
SMALL = {
    "main": {
        **{"data.size": 16, "student.name": "tiny", "teacher.name": "tiny", "epochs": 4, "teacher.epochs": 2},
        **{"batch_size": 8, "teacher.batch_size": 8, "views.corruptions": "gaussian_blur"},
        **{"eval.corruptions": "contrast", "eval.severities": 1, "eval.batch_size": 9},
        **{"log.progress": False, "log.tensorboard": False, "compilation_cache": False},
    },
    "export": {},
    "evaluation": {"eval.corruptions": "contrast", "eval.severities": "1,5", "log.progress": False},
    "predict": {},
}


def draw(folder):
    """45 pictures of three classes, 16 x 20 pixels, a colour each under noise; a new one."""
    rng = np.random.default_rng(0)
    for i in range(46):
        name = [*COLOURS][i % 3]
        place = Path(folder, "train" if i < 36 else "test", name, f"{i} ä.png") if i < 45 else Path("new.jpg")
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(rng.normal(COLOURS[name], 30, (16, 20, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(place)


@pytest.mark.slow
def test_a_folder_of_pictures_to_a_deployed_student_in_four_commands(tmp_path, monkeypatch, capsys):
    """Accuracy and the new picture's classes are what onnxruntime gives of the pixels. Half a minute."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-onnx.txt is not installed")
    pytest.importorskip("jax2onnx", reason="requirements-onnx.txt is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    draw("pictures")
    block = README.split("in four commands")[1].split("```bash\n")[1].split("```")[0]
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [words[:2] for words in commands] == [["python", "-m"]] * 4
    assert [words[2] for words in commands] == [f"craft_jax.{name}" for name in SMALL]
    said = {}
    for (_, _, module, *words), (name, settings) in zip(commands, SMALL.items(), strict=True):
        if name == "evaluation":
            module += ".__main__"
        words += [f"--config.{key}={value}" for key, value in settings.items()]
        assert importlib.import_module(module).main(words) == 0, capsys.readouterr().err
        said[name] = capsys.readouterr().out
    file = next(word.partition("=")[2] for word in commands[2] if word.startswith("--onnx="))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def logits(path):
        pixels = np.asarray(Image.open(path))[:, 2:18]  # its middle
        return session.run(["logits"], {"images": pixels[None] / np.float32(255)})[0][0].astype(np.float64)

    names = sorted(COLOURS)
    right = [names[logits(p).argmax()] == p.parent.name for p in Path("pictures/test").rglob("*.png")]
    assert len(right) == 9 and f"clean accuracy   {100 * np.mean(right):>6.2f}%" in said["evaluation"]
    probabilities = np.exp(logits("new.jpg")) / np.exp(logits("new.jpg")).sum()
    order = np.argsort(-probabilities)
    wanted = ", ".join(f"{names[i]} {100 * probabilities[i]:.2f}%" for i in order)
    assert said["predict"] == f"new.jpg: {wanted}\n"
