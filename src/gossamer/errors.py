"""The errors people see: each says what is wrong, where, and what to type instead.

A traceback is for bugs. Everything that a user, a data set, a disk or a cluster can cause is one of
these, printed as one line, with the exit status beside it.
"""

DONE, FAILED, MISCONFIGURED, PREEMPTED = 0, 1, 2, 3  # exit statuses of every command


class GossamerError(Exception):
    """Base of the family; printed as one line, without a traceback."""

    status = FAILED


class ConfigError(GossamerError):
    """The configuration is wrong. Carries every problem found, one line each."""

    status = MISCONFIGURED

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DataError(GossamerError):
    """A data set is missing, empty, mislabelled, or its splits overlap."""


class TargetError(GossamerError):
    """A result is not what it claims: nothing changed, a declared target missed, a failed check."""


class StageError(GossamerError):
    """A stage could not go on, e.g. a loss that is not finite."""


class OutOfMemory(StageError):
    """The device, or the machine, has less memory than the run needs."""


class ResumeError(GossamerError):
    """A run cannot be continued from what is on disk."""


class Preempted(GossamerError):
    """The run was asked to stop, has saved its state, and can be resumed."""

    status = PREEMPTED
