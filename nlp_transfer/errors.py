"""What a person asked for that cannot be done: one message, and an exit code of its own."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; the README shows the same table."""

    CONFIG = 2  # what was asked for is misspelt, of the wrong type or impossible
    DATA = 3  # the labelled texts are missing or wrong
    CHECKPOINT = 4  # the pretrained checkpoint cannot be loaded
    MACHINE = 5  # this machine cannot do what was asked
    RUN_FOLDER = 6  # the run folder is locked, unwritable or belongs to another run
    TRAINING = 7  # training cannot go on (a loss that is not finite)
    EXPORT = 8  # the exported folder does not answer what was reported
    STOPPED = 9  # told to by a signal: the same command goes on
    HUB = 10  # not uploaded: the model is on this disk, the same command uploads what is missing
    DIFFERENT = 11  # a run that was repeated gives other figures


class UserError(Exception):
    """A failure a person can mend: printed as one message, without a traceback.

    The message says what was expected, what was found and what to do.
    """

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(code, message)  # both, so that another process can be sent it
        self.code = code

    def __str__(self) -> str:
        return str(self.args[1])


def of_the_disk(error: OSError) -> UserError | None:
    """No room, no right: what a person can mend; None where the system names no such reason."""
    if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
        return None
    where = f" ({error.filename})" if error.filename else ""
    return UserError(ExitCode.RUN_FOLDER, f"The disk says: {error.strerror or error}{where}.")
