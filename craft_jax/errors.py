"""The exceptions a user can cause; the command line prints their text and exits with status 2."""


class CraftError(Exception):
    """Something the user can put right: the message names the key or file, the fault and the cure."""


class ConfigError(CraftError, ValueError):
    """A configuration that cannot be run; the message lists every fault found."""


class DataError(CraftError, ValueError):
    """Data that is missing, unreadable or of the wrong shape or type."""


class CheckpointError(CraftError, ValueError):
    """A working directory or checkpoint that does not fit the run that asks for it."""


class MethodError(CraftError, TypeError):
    """A method whose terms the step cannot minimise; the message names the method and the term."""


class TrainingStopped(CraftError, ArithmeticError):
    """A loss or a gradient was not finite; the last good checkpoint is kept."""

    def __init__(self, step, terms, count=1):
        super().__init__(
            f"stopped at step {step}: {', '.join(terms)} not finite; the last good checkpoint is kept. "
            "A smaller --config.optimizer.learning_rate (of a teacher trained on the way: "
            "--config.teacher.learning_rate) or loss weight may help, in a new --workdir."
        )
        self.facts = {"stopped_at_step": step, "stopped_terms": terms, "nan_count": count}
