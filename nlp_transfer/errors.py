"""What a person asked for that cannot be done: one message, and an exit code of its own."""

from __future__ import annotations

import errno
from enum import IntEnum
from pathlib import Path

MAKE_ROOM = " Make room there, and type the same command again."
CHANGE_RIGHTS = " Change its rights, or name a place that this user can read and write."
REMEDIES = {
    errno.ENOSPC: MAKE_ROOM,
    errno.EDQUOT: MAKE_ROOM,
    errno.EROFS: CHANGE_RIGHTS,
    errno.EACCES: CHANGE_RIGHTS,
    errno.EPERM: CHANGE_RIGHTS,
}


class ExitCode(IntEnum):
    """Exit codes of every command."""

    CONFIG = 2
    """An option or argument is misspelt, of the wrong type, missing or impossible."""
    DATA = 3
    """The labelled texts are missing or wrong."""
    CHECKPOINT = 4
    """The checkpoint is missing, gated, pickled, or not a text encoder."""
    MACHINE = 5
    """This machine cannot do what was asked, or has too little memory for it."""
    RUN_FOLDER = 6
    """The run folder is locked, unwritable, full, or belongs to another run."""
    TRAINING = 7
    """Training cannot go on: the loss is not finite."""
    EXPORT = 8
    """The exported folder does not give the answers that were reported."""
    STOPPED = 9
    """A signal stopped the run; the same command continues it."""
    HUB = 10
    """The model is on this disk but not on the Hub; the same command uploads what is missing."""
    DIFFERENT = 11
    """A repeated run gives other figures."""


class UserError(Exception):
    """A failure a person can mend: printed as one message, without a traceback.

    The message says what was expected, what was found and what to do; `code` is the exit code of
    the commands.

    >>> from nlp_transfer import compose
    >>> try:
    ...     compose("+task=sentiment", "seed=five")
    ... except UserError as error:
    ...     print(error.code.name, error)
    CONFIG seed='five': expected a whole number.
    """

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(code, message)  # both, so that another process can be sent it
        self.code = code

    def __str__(self) -> str:
        return str(self.args[1])

    def _render_traceback_(self) -> list[str]:
        """What IPython and notebooks show: the message, without the frames of this package."""
        return [f"{type(self).__name__}: {self}"]


class InputError(UserError, ValueError):
    """Texts or labels that an estimator cannot use; scikit-learn expects a `ValueError`.

    >>> from nlp_transfer import TextClassifier
    >>> TextClassifier().fit("one text", ["a label"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    nlp_transfer.errors.InputError: X is one text; expected a list of texts, ... Give [text].
    """

    def __init__(self, message: str) -> None:
        super().__init__(ExitCode.DATA, message)

    def __reduce__(self) -> tuple[type[InputError], tuple[str]]:
        return type(self), (str(self),)


def of_the_disk(error: OSError) -> UserError | None:
    """No room, no right: what a person can mend; None where the system names no such reason."""
    if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
        return None
    if "usable temporary directory" in str(error.strerror):
        return UserError(
            ExitCode.MACHINE,
            f"{error.strerror}: set TMPDIR to a folder that can be written.",
        )
    where = f" ({error.filename})" if error.filename else ""
    remedy = REMEDIES.get(error.errno, "")
    return UserError(ExitCode.RUN_FOLDER, f"Disk error: {error.strerror or error}{where}.{remedy}")


def no_file(path: Path) -> str:
    """Why `damaged`: a file of a run is not there, or a folder has its name."""
    return "it is a folder" if path.is_dir() else "it is missing"


def damaged(path: Path, reason: str) -> UserError:
    """About a file of a run that cannot be read."""
    return UserError(
        ExitCode.RUN_FOLDER,
        f"{path} is damaged: {reason}. Copy the whole folder again, or remove it and train again.",
    )
