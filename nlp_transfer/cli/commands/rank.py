"""`nlp-transfer rank`: which checkpoint suits a task, before any is trained."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace

from nlp_transfer.cli.arguments import (
    Command,
    Parser,
    add_out,
    add_overrides,
    check_out,
    config_with_data,
    positive,
)
from nlp_transfer.errors import ExitCode, UserError


def _add_rank(parser: Parser) -> None:
    add_overrides(parser)
    parser.add_argument(
        "--checkpoints",
        required=True,
        type=_names,
        metavar="A,B,C",
        help="names of checkpoint=, names on the Hub, or folders",
    )
    parser.add_argument("--layers", action="store_true", help="every layer, not only the last")
    parser.add_argument(
        "--rows", type=positive, metavar="N", help="rows of train at most (2,000), drawn by label"
    )
    add_out(parser, "the ranking as JSON, too; as a page with a plot where it ends in .html")


def run_rank(arguments: Namespace) -> None:
    """Score checkpoints by their frozen features."""
    check_out(arguments.out, arguments.force)
    config = config_with_data(arguments)
    from nlp_transfer.analysis.rank.rank import ROWS, rank
    from nlp_transfer.analysis.rank.table import ranking_page, ranking_text
    from nlp_transfer.utils.files import write_text

    ranking = rank(
        arguments.overrides,
        arguments.checkpoints,
        arguments.rows or ROWS,
        arguments.layers,
        arguments.config_dir,
        config,
    )
    print(f"\n{ranking_text(ranking)}")
    if arguments.out is not None:
        page = arguments.out.suffix == ".html"
        write_text(arguments.out, ranking_page(ranking) if page else ranking.as_json())
    if all(candidate.failed is not None for candidate in ranking.candidates):
        raise UserError(ExitCode.CHECKPOINT, "No checkpoint could be scored: see above.")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise ArgumentTypeError(f"{text!r} must be different names with commas between them")
    return names


RANK = Command(
    "rank", "Which checkpoint suits the task, before any is trained?", _add_rank, run_rank
)
