"""`nlp-transfer check` and `suspects`: what is wrong with the data and its labels."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nlp_transfer.cli.arguments import (
    Command,
    Parser,
    add_folder,
    add_out,
    add_overrides,
    check_out,
    positive,
    refuse_absent_folder,
)
from nlp_transfer.errors import UserError


def run_check(arguments: Namespace) -> None:
    """Print what is wrong with the data of a configuration."""
    check_out(arguments.out, arguments.force)
    from nlp_transfer.config.composition import compose

    config = compose(*arguments.overrides, config_dir=arguments.config_dir, in_memory=False)
    from nlp_transfer.data.corpus import load_run_corpus
    from nlp_transfer.data.faults import Faults

    faults = Faults(own=False)
    try:
        corpus = load_run_corpus(config, faults=faults)
    except UserError as error:
        faults.refuse(error)
        raise
    # Imports torch; data that cannot be read are reported without waiting for it.
    from nlp_transfer.quality.report import check

    check(config, corpus, faults, arguments.out)


def _add_check(parser: Parser) -> None:
    add_overrides(parser)
    add_out(parser, "every finding with its rows (the first 1,000), as JSON")


def _add_suspects(parser: Parser) -> None:
    add_folder(parser)
    add_out(parser, "a table (suspects.csv)", Path("suspects.csv"))
    parser.add_argument("--all", action="store_true", help="validation and test as well as train")
    parser.add_argument("--neighbours", type=positive, metavar="N", help="(what suits the labels)")


def run_suspects(arguments: Namespace) -> None:
    """Write a table of rows whose labels may be wrong."""
    refuse_absent_folder(arguments.folder)
    from nlp_transfer.data.formats.windows import kind_of

    out = arguments.out
    kind_of(out)
    check_out(out, arguments.force)
    # Imports torch; what is wrong with --out is said without waiting for it.
    from nlp_transfer.quality.label_errors import describe, find_suspects, write_suspects

    suspects = find_suspects(
        arguments.folder, arguments.all, arguments.neighbours, arguments.threads
    )
    write_suspects(suspects, out)
    print(describe(suspects, out))


CHECK = Command(
    "check",
    "Check the data for duplicates, leaks, label problems and long texts.",
    _add_check,
    run_check,
)
SUSPECTS = Command(
    "suspects",
    "List rows whose labels may be wrong, the most suspicious first.",
    _add_suspects,
    run_suspects,
)
