"""The exceptions a user can cause; the command line prints their text and exits with their `status`."""


class CraftError(Exception):
    """Something the user can put right: the message names the key or file, the fault and the cure."""

    status = 2


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

    def __init__(self, step, terms):
        super().__init__(
            f"stopped at step {step}: {', '.join(terms)} not finite; the last good checkpoint is kept. "
            "A smaller --config.optimizer.learning_rate (of a teacher trained on the way: "
            "--config.teacher.learning_rate) or loss weight may help, in a new --workdir."
        )
        # One, the step it stops at: steps that ran before the host looked started from what that one spoilt.
        self.facts = {"stopped_at_step": step, "stopped_terms": terms, "nan_count": 1}


class Interrupted(CraftError):
    """SIGTERM or SIGINT came; the same command goes on from the newest checkpoint."""

    status = 75  # EX_TEMPFAIL of sysexits.h: try again

    def __init__(self, step=None):
        saved = "from the last checkpoint" if step is None else f"from step {step}, which is saved"
        super().__init__(f"interrupted; the same command goes on {saved}")
