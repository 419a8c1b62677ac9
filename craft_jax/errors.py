"""The exceptions a user can cause; the command line prints their text and exits with their `status`."""

import argparse
import functools
import sys
import traceback
import unicodedata


def printable(text):
    """Text for a terminal: control characters (escape sequences among them), but for line ends and tabs, and
    those that turn the direction of writing are shown as \\xNN or \\uNNNN. Texts of files go through it."""
    return "".join(
        char.encode("unicode_escape").decode()
        if char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else char
        for char in text
    )


class CraftError(Exception):
    """Something the user can put right: the message names the key or file, the fault and the cure."""

    status = 2
    told = False  # whether another process of the run has printed it

    def __str__(self):
        return printable(super().__str__())


class ConfigError(CraftError, ValueError):
    """A configuration that cannot be run; the message lists every fault found."""


class DataError(CraftError, ValueError):
    """Data that is missing, unreadable or of the wrong shape or type."""


class CheckpointError(CraftError, ValueError):
    """A working directory or checkpoint that does not fit the run that asks for it."""


class CheckpointDamaged(CheckpointError):
    """What was saved does not come back as it was."""


class NumericsError(CraftError, ArithmeticError):
    """An installation whose sums are wrong, or known to be; the message says which to install."""


class ModelError(CraftError, TypeError):
    """A network that no step could use; the message names the network and what is wrong with it."""


class MethodError(CraftError, TypeError):
    """A method whose terms the step cannot minimise; the message names the method and the term."""


class TrainingStopped(CraftError, ArithmeticError):
    """A loss or a gradient was not finite; the last good checkpoint is kept."""

    status = 3

    def __init__(self, step, terms, nan_count=1, leaf="", workdir=""):
        """Args: the step; names of its metrics; bad steps so far; first bad leaf, in words; the workdir."""
        first = f", first {leaf}" if leaf else ""
        told = f" python -m craft_jax.replay {workdir} --step={step} prints every term." if workdir else ""
        super().__init__(
            f"stopped at step {step}: {', '.join(terms)} not finite{first}; the last good checkpoint is kept."
            f"{told} A smaller --config.optimizer.learning_rate (of a teacher trained on the way: "
            "--config.teacher.learning_rate) or loss weight may help, in a new --workdir."
        )
        # At first one, the step it stops at: steps that ran before the host looked started from what that
        # one spoilt; where bad updates are skipped (optimizer.skip_nonfinite), those too.
        self.facts = {"stopped_at_step": step, "stopped_terms": terms, "nan_count": nan_count}
        self.facts |= {"stopped_leaf": leaf} if leaf else {}


class Interrupted(CraftError):
    """SIGTERM or SIGINT came; the same command goes on from the newest checkpoint."""

    status = 75  # EX_TEMPFAIL of sysexits.h: try again

    def __init__(self, step=None):
        saved = "from the last checkpoint" if step is None else f"from step {step}, which is saved"
        super().__init__(f"interrupted; the same command goes on {saved}")


class Parser(argparse.ArgumentParser):
    """A parser whose faults are ConfigErrors: `command` tells them as it does any other."""

    def __init__(self, **settings):
        """Args: as argparse.ArgumentParser's; texts keep their lines, and options are written out in full."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message):
        """Raises ConfigError with argparse's own message."""
        raise ConfigError(message)


def command(main):
    """A main(argv) that prints a CraftError's text and returns its status; --debug shows where it arose."""

    @functools.wraps(main)
    def run(argv=None):
        argv = list(sys.argv[1:] if argv is None else argv)
        debug = "--debug" in argv
        try:
            return main([word for word in argv if word != "--debug"])
        except CraftError as error:
            if debug:
                traceback.print_exc()
            if not error.told:
                print(f"craft_jax: {error}", file=sys.stderr)
            return error.status

    return run
