"""`nlp-transfer …`: every command, and how errors become exit codes."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from nlp_transfer import __version__
from nlp_transfer.cli import options
from nlp_transfer.cli.arguments import Command, fail, no_arguments
from nlp_transfer.cli.commands import (
    check,
    compare,
    distill,
    estimate,
    evaluate,
    explain,
    export,
    predict,
    rank,
    repeat,
    serve,
    suggest,
)
from nlp_transfer.errors import ExitCode, UserError, of_the_disk
from nlp_transfer.utils.terminal import refuse_undecoded, replace_unprintable

# Packages that a command may find missing, and what installs them.
PACKAGES = {
    **dict.fromkeys(("fastapi", "uvicorn", "prometheus_client"), "'nlp_transfer[serve]'"),
    **dict.fromkeys(("torch", "transformers", "pyarrow", "tqdm"), "nlp_transfer"),
}


def _run_train(arguments: argparse.Namespace) -> None:
    from nlp_transfer.cli.train import main as train

    train(arguments.rest)


# Its arguments are Hydra's: `main` does not parse them.
TRAIN = Command("train", "Train a classifier: +task=… KEY=VALUE …", no_arguments, _run_train)
GROUPS = {
    "Prepare and train": (check.CHECK, rank.RANK, estimate.ESTIMATE, TRAIN, options.OPTIONS),
    "Judge a model": (
        evaluate.EVALUATE,
        compare.COMPARE,
        compare.REPORT,
        repeat.REPEAT,
        repeat.LEARNING_CURVE,
    ),
    "Improve the data": (check.SUSPECTS, suggest.SUGGEST, suggest.REVIEW),
    "Use and ship a model": (
        predict.PREDICT,
        explain.EXPLAIN,
        serve.SERVE,
        export.EXPORT,
        distill.DISTILL,
        export.PUSH,
    ),
    "Set up": (options.COMPLETION,),
}
CLOSED_PIPE = 141  # as a shell reports a program that SIGPIPE ended
COMMANDS = [command for commands in GROUPS.values() for command in commands]


class _Parser(argparse.ArgumentParser):
    """Reports errors in the words and with the exit code of everything else."""

    def error(self, message: str) -> Any:
        raise UserError(ExitCode.CONFIG, f"{message} ({self.prog} --help)")


class _Main(_Parser):
    """The parser of `nlp-transfer` itself; its help lists the commands by what they are for."""

    def format_help(self) -> str:
        lines = ["usage: nlp-transfer COMMAND …", "", "Fine-tune, judge and ship text classifiers."]
        for title, commands in GROUPS.items():
            lines += ["", f"{title}:"]
            lines += [f"  {command.name:<15} {command.summary}" for command in commands]
        lines += [
            "",
            "  nlp-transfer COMMAND --help    the arguments of a command",
            "  nlp-transfer --version         the version",
        ]
        return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit codes are those of `ExitCode`."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    replace_unprintable()
    try:
        refuse_undecoded(arguments)
        if arguments[:1] == [TRAIN.name]:
            TRAIN.run(argparse.Namespace(rest=arguments[1:]))
        else:
            _run(arguments)
    except UserError as error:
        fail(error.code, str(error))
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        missing = f"This needs {error.name}, which is not installed."
        fail(ExitCode.MACHINE, f"{missing} Type pip install {PACKAGES[error.name]}")
    except BrokenPipeError:
        # The reader of the output (`| head`) has what it wanted: nothing more can be written, not
        # even at exit, and nothing needs to be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CLOSED_PIPE)
    except OSError as error:  # what was answered before is kept
        refusal = of_the_disk(error)
        if refusal is None:
            raise
        fail(refusal.code, str(refusal))
    except KeyboardInterrupt as error:
        fail(130, f"Interrupted. {error}".rstrip())


def _refuse_another_command(word: str) -> None:
    """Refuse a first word that is neither a command nor a flag of the program.

    Raises:
        UserError: with the command that is spelt most like it.
    """
    names = [command.name for command in COMMANDS]
    if word in (*names, "--help", "-h", "--version"):
        return
    if "=" in word or word.startswith("-"):
        hint = f"A command comes first, as in nlp-transfer train +task=sentiment {word}."
    else:
        close = difflib.get_close_matches(word.lower(), names, n=1)
        hint = f"Did you mean {close[0]}?" if close else "nlp-transfer --help lists them."
    raise UserError(ExitCode.CONFIG, f"{word!r} is not a command. {hint}")


def _run(arguments: list[str]) -> None:
    if not arguments:
        print(make_parser([]).format_help(), end="", file=sys.stderr)
        sys.exit(int(ExitCode.CONFIG))
    _refuse_another_command(arguments[0])
    parser = make_parser(arguments[:1])
    parsed, rest = parser.parse_known_args(arguments)
    if rest and hasattr(parsed, "sentences") and not any(word.startswith("-") for word in rest):
        parsed.sentences += rest  # argparse stops at the first option after the folder
    elif rest:
        flags = options.flags_of(options.subparsers_of(parser)[arguments[0]])
        _refuse_rest(arguments, rest, flags, hasattr(parsed, "overrides"))
    parsed.run(parsed)


def _refuse_rest(
    arguments: list[str], rest: list[str], flags: list[str], has_overrides: bool
) -> NoReturn:
    """Refuse what a command does not know, and name the flag that is spelt most like it.

    Args:
        rest: what is left of the arguments.
        flags: of the command.
    """
    # Inside: it knows every option of the configuration, and no other command line needs one.
    from nlp_transfer.config.hints import likely_flag, unknown_flag, value_of_flag

    flag, program = rest[0].partition("=")[0], f"nlp-transfer {arguments[0]}"
    if has_overrides:
        value = value_of_flag(arguments, arguments.index(rest[0]))
        raise UserError(ExitCode.CONFIG, unknown_flag(flag, value, program, flags))
    similar_flag = likely_flag(flag, flags)
    hint = f"Did you mean {similar_flag}? " if similar_flag else ""
    raise UserError(
        ExitCode.CONFIG, f"unrecognized arguments: {' '.join(rest)}. {hint}({program} --help)"
    )


def make_parser(names: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        names: the commands whose arguments are wanted; None: all of them.
    """
    parser = _Main(prog="nlp-transfer")
    version = f"nlp-transfer {__version__}"
    parser.add_argument("--version", action="version", version=version)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        sentence = command.description or command.summary
        subparser = subparsers.add_parser(command.name, help=command.summary, description=sentence)
        subparser.set_defaults(run=command.run)
        if names is None or command.name in names:
            command.add_arguments(subparser)
    return parser


if __name__ == "__main__":
    main()
