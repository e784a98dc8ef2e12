"""`nlp-transfer options` and `completion`: what can be typed."""

from __future__ import annotations

import shutil
import textwrap
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator
from importlib import resources

from nlp_transfer.cli.arguments import Command, Parser
from nlp_transfer.errors import ExitCode, UserError

SHELLS = ("bash", "zsh")
OVERRIDES = ("train", "check", "learning-curve")  # the commands that take KEY=VALUE


def _add_options(parser: Parser) -> None:
    parser.add_argument("word", nargs="?", metavar="WORD", help="only keys and texts with this")


def run_options(arguments: Namespace) -> None:
    """Print the options of the configuration."""
    from nlp_transfer.config import hints, options

    word = arguments.word
    matches = options.options() if word is None else options.search(word)
    if not matches:
        names = hints.likely_keys(word)
        matches = [o for o in options.options() if o.key in names or o.key.startswith(f"{word}.")]
        if not matches:
            raise UserError(
                ExitCode.CONFIG,
                f"No option has {word!r} in its key or its text. nlp-transfer options lists all.",
            )
    width = min(shutil.get_terminal_size().columns, 100)
    for option in matches:
        print(
            f"{option.key}={option.default}" if option.default != options.REQUIRED else option.key
        )
        default = "" if option.default != options.REQUIRED else " (required)"
        for text in (f"{option.type}{default}", option.meaning):
            lines = textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ")
            print("\n".join(lines), end="\n" if lines else "")


def _add_completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="print its completion script")


def run_completion(arguments: Namespace) -> None:
    """Print a script that completes commands, flags, options and files."""
    from nlp_transfer.cli.main import COMMANDS, make_parser

    template = resources.files("nlp_transfer.cli").joinpath("completion.sh").read_text("utf-8")
    subparsers = subparsers_of(make_parser())
    parts = {
        "@COMMANDS@": " ".join(command.name for command in COMMANDS),
        "    @VALUES@": "\n".join(_cases(_values(subparsers), "    ")),
        "      @CASES@": "\n".join(_cases(_words(subparsers), "      ")),
    }
    script = template
    for place, part in parts.items():
        script = script.replace(place, part)
    if arguments.shell == "zsh":
        script = f"autoload -U +X bashcompinit && bashcompinit\n{script}"
    print(script, end="")


def flags_of(parser: ArgumentParser) -> list[str]:
    """Those of a command, written out."""
    flags = [flag for action in parser._actions for flag in action.option_strings]
    return [flag for flag in flags if flag.startswith("--")]


def subparsers_of(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    """Of each command."""
    action = next(a for a in parser._actions if isinstance(a, _SubParsersAction))
    return dict(action.choices)


def _cases(words: dict[str, list[str]], indent: str) -> Iterator[str]:
    """The arms of a `case` of the shell."""
    for pattern, of_pattern in words.items():
        yield f"{indent}{pattern}) words='{' '.join(of_pattern)}' ;;"


def _words(subparsers: dict[str, ArgumentParser]) -> dict[str, list[str]]:
    """What may follow each command, its flags last."""
    words = {}
    for name, subparser in subparsers.items():
        words[name] = [
            str(choice)
            for action in subparser._actions
            if not action.option_strings
            for choice in action.choices or ()
        ]
        words[name] += _override_words() if name in OVERRIDES else []
        words[name] += _keys() if name == "options" else []
        words[name] += flags_of(subparser)
    words["train"] += ["--multirun", "--cfg", "--config-dir"]
    return words


def _values(subparsers: dict[str, ArgumentParser]) -> dict[str, list[str]]:
    """The values of each flag, by its command; none: files."""
    return {
        f'"{name} {flag}"': [str(choice) for choice in action.choices or ()]
        for name, subparser in subparsers.items()
        for action in subparser._actions
        if action.nargs != 0
        for flag in action.option_strings
    }


def _keys() -> list[str]:
    from nlp_transfer.config.options import STAGE, options

    return [option.key for option in options() if STAGE not in option.key]


def _override_words() -> list[str]:
    """Groups with their options, keys, and keys with their values where these are few."""
    from nlp_transfer.config.groups import ADDED_GROUPS, GROUPS, group_options
    from nlp_transfer.config.options import STAGE, options

    words = []
    for group in GROUPS:
        plus = "+" if group in ADDED_GROUPS else ""
        words += [f"{plus}{group}={name}" for name, _ in group_options(group)]
    for option in options():
        if STAGE not in option.key and option.key != "task":
            words += [f"{option.key}={value}" for value in option.values] or [f"{option.key}="]
    return words


OPTIONS = Command(
    "options", "List the options with type, default and meaning.", _add_options, run_options
)
COMPLETION = Command(
    "completion",
    "Print a completion script: bash or zsh.",
    _add_completion,
    run_completion,
    'Print a completion script. bash: eval "$(nlp-transfer completion bash)" in ~/.bashrc; '
    'zsh: eval "$(nlp-transfer completion zsh)" in ~/.zshrc.',
)
