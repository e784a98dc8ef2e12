"""The doors of data and runs: `nlp-transfer check / evaluate / compare / report / …`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlp_transfer.cli.folder_commands import Doors, choose_backend, door_of, positive, refuse_out
from nlp_transfer.errors import ExitCode, UserError


def _check(doors: Doors) -> None:
    sentence = "Look for what is wrong with the data; takes what training takes."
    door = doors.add_parser("check", help=sentence, description=sentence)
    door.set_defaults(run=_run_check)
    door.add_argument("--config-dir", metavar="DIR", help="a folder with YAML groups of your own")
    door.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="as in +task=sentiment")


def _run_check(asked: Any) -> None:
    from nlp_transfer.config.composition import compose

    config = compose(*asked.overrides, config_dir=asked.config_dir)
    # It imports torch, which an error in the configuration need not wait for.
    from nlp_transfer.quality.report import check

    check(config)


def _suspects(doors: Doors) -> None:
    door = door_of(doors, "suspects", "List rows, least believable labels first.", _run_suspects)
    door.add_argument("--out", type=Path, default=Path("suspects.csv"), metavar="FILE")
    door.add_argument("--all", action="store_true", help="validation and test as well as train")
    door.add_argument("--neighbours", type=positive, metavar="N", help="(what suits the labels)")
    door.add_argument("--force", action="store_true", help="replace --out if it is there")


def _run_suspects(asked: Any) -> None:
    from nlp_transfer.data.tabular import kind_of
    from nlp_transfer.quality.label_errors import describe, find_suspects, write_suspects

    kind_of(asked.out)
    refuse_out(asked.out, asked.force)
    found = find_suspects(asked.folder, asked.all, asked.neighbours, asked.threads)
    write_suspects(found, asked.out)
    print(describe(found, asked.out))


def _add_out(door: Any, what: str) -> None:
    door.add_argument("--out", type=Path, metavar="FILE", help=what)
    door.add_argument("--force", action="store_true", help="replace --out if it is there")


def _refuse_out(asked: Any) -> None:
    if asked.out is not None:
        refuse_out(asked.out, asked.force)


def _evaluate(doors: Doors) -> None:
    door = door_of(doors, "evaluate", "Measure on labelled texts of any origin.", _run_evaluate)
    choose_backend(door)
    what = "a file, a glob, a name of conf/dataset or of the Hub"
    door.add_argument("--data", required=True, metavar="DATA", help=what)
    door.add_argument("--split", default="test", help="of a dataset (test)")
    door.add_argument("--text", metavar="COLUMN", help="the texts (as in the run, or text)")
    door.add_argument("--text-pair", metavar="COLUMN", help="the second text of each")
    door.add_argument("--label", metavar="COLUMN", help="the labels (as in the run, or label)")
    door.add_argument("--delimiter", help="between the labels of one cell")
    _add_out(door, "as metrics.json, too")


def _run_evaluate(asked: Any) -> None:
    from nlp_transfer.analysis.evaluate import LabelledTexts, remeasure
    from nlp_transfer.utils.files import write_json

    _refuse_out(asked)
    columns = (asked.text, asked.text_pair, asked.label, asked.delimiter)
    texts = LabelledTexts(asked.data, asked.split, *columns)
    found = remeasure(asked.folder, texts, asked.backend, asked.threads)
    print(found)
    if asked.out is not None:
        write_json(asked.out, found.measured)


def _compare(doors: Doors) -> None:
    sentence = "Put runs side by side, and say which of them the data can tell apart."
    door = doors.add_parser("compare", help=sentence, description=sentence)
    door.set_defaults(run=_run_compare)
    door.add_argument("folders", type=Path, nargs="+", help="finished runs, or a sweep's folder")
    door.add_argument("--metric", help="by which (what chose the epoch)")
    _add_out(door, "all of it as JSON, too")


def _run_compare(asked: Any) -> None:
    from nlp_transfer.analysis.compare import as_json, compare
    from nlp_transfer.analysis.compare_table import table
    from nlp_transfer.utils.files import write_text

    _refuse_out(asked)
    found = compare(asked.folders, asked.metric)
    print(table(found))
    if asked.out is not None:
        write_text(asked.out, as_json(found))


def _repeat(doors: Doors) -> None:
    sentence = "Run a stored configuration again, and compare the figures."
    door = doors.add_parser("repeat", help=sentence, description=sentence)
    door.set_defaults(run=_run_repeat)
    door.add_argument("folder", type=Path, help="a finished run")
    door.add_argument("--out", type=Path, metavar="FOLDER", help="of the new run (RUN-repeat)")


def _run_repeat(asked: Any) -> None:
    from nlp_transfer.analysis.reproduce import repeat
    from nlp_transfer.training.signals import handle_signals

    with handle_signals():
        found = repeat(asked.folder, asked.out)
    print(f"\n{found}")
    if found.changed:
        raise UserError(
            ExitCode.DIFFERENT, f"{asked.folder} does not give the same figures again: see above."
        )


def _curve(doors: Doors) -> None:
    sentence = "Train on 1/8, 1/4, 1/2 and all of the labels: would more of them help?"
    door = doors.add_parser("learning-curve", help=sentence, description=sentence)
    door.set_defaults(run=_run_curve)
    what = "as for training: +task=… dataset.train=…"
    door.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help=what)
    door.add_argument("--config-dir", type=Path, metavar="FOLDER", help="with YAML of your own")
    _add_out(door, "all of it as JSON, too")


def _run_curve(asked: Any) -> None:
    from nlp_transfer.analysis.learning_curve import learning_curve
    from nlp_transfer.training.signals import handle_signals
    from nlp_transfer.utils.files import write_text

    _refuse_out(asked)
    with handle_signals():
        found = learning_curve(asked.overrides, asked.config_dir)
    print(f"\n{found}")
    if asked.out is not None:
        write_text(asked.out, found.as_json())


def _report(doors: Doors) -> None:
    sentence = "Draw report.html again, also of a run that is not finished."
    door = doors.add_parser("report", help=sentence, description=sentence)
    door.set_defaults(run=_run_report)
    door.add_argument("folder", type=Path, help="a run")


def _run_report(asked: Any) -> None:
    from nlp_transfer.reporting.html import write_report

    print(write_report(asked.folder))


RUN_DOORS = (_check, _evaluate, _compare, _report, _suspects, _repeat, _curve)
