"""The command line in this process: what it is parsed into, or refused with."""

from pathlib import Path

from craft_jax import main
from craft_jax.config import command

ROOT = Path(__file__).resolve().parents[2]
CRAFT = str(ROOT / "configs" / "craft.py")
SMOKE = f"--config={CRAFT}:smoke"


def refused(capsys, *argv):
    """The lines on stderr of a command that must end with status 2 and leave nothing behind."""
    before = sorted(Path.cwd().rglob("*"))
    assert main.main(list(argv)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("craft_jax: ") and captured.err.count("craft_jax: ") == 1
    assert "Traceback" not in captured.err
    assert sorted(p for p in Path.cwd().rglob("*") if "__pycache__" not in p.parts) == before
    return captured.err.removeprefix("craft_jax: ").rstrip("\n").split("\n")


def parse(*argv):
    return command.parse(list(argv))
