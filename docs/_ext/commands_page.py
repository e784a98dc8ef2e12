"""Every command, from the parsers of `nlp_transfer.cli`."""

from __future__ import annotations

import argparse
import textwrap

from markdown_tables import code, prose, table

from nlp_transfer.cli.main import GROUPS, TRAIN, make_parser

TRAIN_PAGE = """
```text
nlp-transfer train +task=NAME [GROUP=NAME …] [KEY=VALUE …] [FLAG …]
python -m nlp_transfer.train +task=NAME …
```

Both forms are the same command. The second works under `torchrun` and `accelerate launch`.
`+task=`, `checkpoint=`, `dataset=`, `strategy=` and `+search=` take a name from
[Names to choose from](choices.md); every `KEY=VALUE` is one of the [options](options.md).

| flag | meaning |
| --- | --- |
| `--help` | list the names that can be chosen |
| `--cfg job` | print the whole configuration and exit |
| `--config-dir DIR` | a folder with your own YAML groups |
| `--multirun`, `-m` | run every combination of comma-separated values |
| `--hydra-help` | the other flags of Hydra |
"""


def markdown() -> str:
    """One heading a command, in the groups of `nlp-transfer --help`."""
    parsers = subparsers_of(make_parser())
    parts = []
    for title, commands in GROUPS.items():
        parts.append(f"## {title}\n")
        for command in commands:
            parts.append(f"### {command.name}\n\n{prose(command.description or command.summary)}\n")
            parts.append(TRAIN_PAGE if command is TRAIN else describe(parsers[command.name]))
    return "\n".join(parts)


def subparsers_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of every command, by its name."""
    of_commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(of_commands.choices)


def describe(parser: argparse.ArgumentParser) -> str:
    """The usage of one command, and a table of its arguments."""
    parser.formatter_class = _Wide
    usage = parser.format_usage().removeprefix("usage: ").strip()
    usage = "\n".join(textwrap.wrap(usage, 92, subsequent_indent="    ", break_on_hyphens=False))
    rows: list[tuple[str, ...]] = [
        _row(action) for action in parser._actions if action.dest != "help"
    ]
    head: tuple[str, ...] = ("argument", "default", "meaning")
    if not any(default for _, default, _ in rows):
        head, rows = ("argument", "meaning"), [(name, meaning) for name, _, meaning in rows]
    arguments = table(head, rows) if rows else ""
    return f"```text\n{usage}\n```\n\n{arguments}"


class _Wide(argparse.HelpFormatter):
    """A usage in one line, which is wrapped afterwards."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=10_000)


def _row(action: argparse.Action) -> tuple[str, str, str]:
    value = "" if action.nargs == 0 else str(action.metavar or "")
    if action.option_strings:
        if not value and action.nargs != 0:
            value = "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
        name = f"{', '.join(action.option_strings)} {value}".strip()
    else:
        name = value or action.dest
        if action.choices:
            name += f" ({', '.join(map(str, action.choices))})"
    unset = action.default in (None, False, "", [], argparse.SUPPRESS) or action.nargs == 0
    default = "" if unset else code(str(action.default))
    meaning = (action.help or "").replace("%(default)s", str(action.default))
    required = " (required)" if action.required and action.option_strings else ""
    return code(name), default, prose(meaning) + required
