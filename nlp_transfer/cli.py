"""The doors besides training: `nlp-transfer check / export / predict / serve / …`."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_transfer.classifier import BACKENDS, find_model
from nlp_transfer.errors import ExitCode, UserError

if TYPE_CHECKING:
    from nlp_transfer.prediction import Question

# What a door may find missing, and what brings it.
PACKAGES = {
    **dict.fromkeys(("fastapi", "uvicorn", "prometheus_client"), "'nlp_transfer[serve]'"),
    **dict.fromkeys(("torch", "transformers", "pyarrow", "tqdm"), "nlp_transfer"),
}
Doors = Any  # argparse keeps the type of `add_subparsers` to itself


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in the same words, and with the same code, as everything else."""

    def error(self, message: str) -> Any:
        raise UserError(ExitCode.CONFIG, f"{message} ({self.prog} --help)")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit codes are those of `ExitCode`."""
    try:
        asked = _parser().parse_args(arguments)
        asked.run(asked)
    except UserError as error:
        _fail(error.code, str(error))
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        missing = f"This needs {error.name}, which is not installed."
        _fail(ExitCode.MACHINE, f"{missing} Type pip install {PACKAGES[error.name]}")
    except BrokenPipeError:
        # Whoever read our answers has gone; nothing more can be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(130, "The reader of the answers has gone.")
    except OSError as error:  # no room, no right: whatever was answered before is kept
        where = f" ({error.filename})" if error.filename else ""
        _fail(ExitCode.RUN_FOLDER, f"The disk says: {error.strerror or error}{where}.")
    except KeyboardInterrupt:
        _fail(130, "Interrupted.")


def _fail(code: int, message: str) -> None:
    # What all processes of a launch find, the first one says.
    if os.environ.get("RANK", "0") == "0":
        print(f"Error: {message}", file=sys.stderr, flush=True)
    sys.exit(int(code))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nlp-transfer", description="What can be done besides training.")
    doors = parser.add_subparsers(required=True, metavar="DOOR")
    for declare in (
        _check,
        _export,
        _predict,
        _serve,
        _push,
        _evaluate,
        _compare,
        _report,
        _suspects,
        _repeat,
        _curve,
    ):
        declare(doors)
    return parser


def _door(doors: Doors, name: str, sentence: str, run: Callable[[Any], None]) -> Any:
    door = doors.add_parser(name, help=sentence, description=sentence)
    door.set_defaults(run=run)
    door.add_argument("folder", type=Path, help="a finished run, or an exported folder")
    door.add_argument("--threads", type=_positive, metavar="N", help="of the CPU")
    return door


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _check(doors: Doors) -> None:
    sentence = "Look for what is wrong with the data; takes what training takes."
    door = doors.add_parser("check", help=sentence, description=sentence)
    door.set_defaults(run=_run_check)
    door.add_argument("--config-dir", metavar="DIR", help="a folder with YAML groups of your own")
    door.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="as in +task=sentiment")


def _run_check(asked: Any) -> None:
    from nlp_transfer.train import compose

    config = compose(*asked.overrides, config_dir=asked.config_dir)
    # It imports torch, which an error in the configuration need not wait for.
    from nlp_transfer.data_report import check

    check(config)


def _export(doors: Doors) -> None:
    door = _door(doors, "export", "Export to ONNX, compared with torch.", _run_export)
    door.add_argument("--onnx", action="store_true", required=True, help="float32, into onnx/")
    door.add_argument("--int8", action="store_true", help="and int8 beside it")
    door.add_argument("--force", action="store_true", help="int8 also where it loses too much")
    door.add_argument("--data", metavar="FILE", help="compare on these texts (without a run)")
    door.add_argument("--text", default="text", metavar="COLUMN", help="of --data (text)")
    door.add_argument("--label", metavar="COLUMN", help="of --data, where they have one")
    door.add_argument("--delimiter", metavar="SIGN", help="between several labels of a cell")


def _run_export(asked: Any) -> None:
    from nlp_transfer import onnx_export
    from nlp_transfer.validation_texts import of_file, of_run

    if asked.data is None:
        questions = of_run(asked.folder)
    else:
        given = (asked.text, asked.label, asked.delimiter)
        questions = of_file(asked.folder, asked.data, *given)
    exported = onnx_export.export_onnx(
        asked.folder, questions, asked.int8, asked.force, asked.threads
    )
    print(onnx_export.table(exported))
    print(f"\nCompared on {len(questions.texts):,} texts of {questions.source}.")
    print(f"Written: {exported.folder}/onnx")
    if exported.refused and asked.force:
        print(f"int8 was written because of --force: {exported.refused}.")
    elif exported.refused:
        raise UserError(
            ExitCode.EXPORT,
            f"int8 was not written: {exported.refused}. "
            "Use float32, or add --force if that is good enough.",
        )


def _predict(doors: Doors) -> None:
    door = _door(doors, "predict", "Answer a table of texts.", _run_predict)
    door.description = (
        "Answer a table of texts. All columns are kept; label and score are added. Where a text "
        "may have several labels it is labels, a list (in CSV and TSV joined by --delimiter); of a "
        "model that gives scores it is score alone."
    )
    _backend(door)
    door.add_argument("--file", default="-", help="CSV, TSV, JSON lines or Parquet (-: stdin)")
    door.add_argument("--text", required=True, metavar="COLUMN", help="the texts")
    door.add_argument("--text-pair", metavar="COLUMN", help="the second text of each")
    door.add_argument("--out", default="-", metavar="FILE", help="as --file (-: stdout)")
    door.add_argument("--format", choices=("csv", "tsv", "jsonl"), help="of stdin and stdout")
    door.add_argument("--probabilities", action="store_true", help="of every label, too")
    door.add_argument("--prefix", default="", help="of the new columns' names")
    door.add_argument("--delimiter", default="|", metavar="SIGN", help="between labels (|)")
    door.add_argument("--force", action="store_true", help="replace --out if it is there")


def _backend(door: Any) -> None:
    door.add_argument("--backend", choices=BACKENDS, default="torch", help="what runs (torch)")


def _run_predict(asked: Any) -> None:
    from nlp_transfer.classifier import Classifier
    from nlp_transfer.parts import Worker
    from nlp_transfer.prediction import identity_of, predict_file, predict_stream, refuse_answers

    worker = Worker.of_launch()
    question = _question(asked, worker.count)
    classifier = Classifier.load(asked.folder, asked.backend, asked.threads)
    refuse_answers(question, classifier.answering)
    began = time.monotonic()
    if question.out is None:
        done = predict_stream(classifier, question, sys.stdout.buffer)
    else:
        identity = identity_of(question, asked.folder, asked.backend)
        done = predict_file(classifier, question, identity, worker)
    if worker.rank == 0:
        seconds = time.monotonic() - began
        blank = f", {done.blank:,} of them without a text and an answer" if done.blank else ""
        again = f"; {done.kept:,} windows were there" if done.kept else ""
        where = question.out or "the standard output"
        said = f"{done.rows:,} rows{blank} in {seconds:.1f} s{again}: {where}"
        print(said, file=sys.stderr)


def _question(asked: Any, workers: int) -> Question:
    """What is asked, refused where it cannot be before anything is loaded."""
    from nlp_transfer.prediction import Question
    from nlp_transfer.tables import kind_of

    source = None if asked.file == "-" else Path(asked.file)
    out = None if asked.out == "-" else Path(asked.out)
    streamed = [name for name, path in (("--file", source), ("--out", out)) if path is None]
    if workers > 1 and streamed:
        raise UserError(ExitCode.CONFIG, f"Several workers need a file: {streamed[0]}.")
    kind = asked.format if source is None else kind_of(source)
    out_kind = (asked.format or kind) if out is None else kind_of(out)
    if kind is None or (out is None and out_kind == "parquet"):
        where = "Standard input" if kind is None else "Standard output"
        raise UserError(ExitCode.CONFIG, f"{where} needs --format csv, tsv or jsonl.")
    if source is not None and not source.is_file():
        raise UserError(ExitCode.DATA, f"--file {source}: there is no such file.")
    if out is not None:
        _refuse_out(out, asked.force)
    if out is not None and source is not None and out.exists() and out.samefile(source):
        raise UserError(ExitCode.CONFIG, "--out and --file are the same file.")
    given = (asked.text, asked.text_pair, asked.probabilities, asked.prefix, asked.delimiter)
    return Question(source, kind, out, out_kind, *given)


def _refuse_out(out: Path, force: bool) -> None:
    """Before anything is computed: a file that cannot be written, or would be lost."""
    if not out.parent.is_dir():
        raise UserError(ExitCode.CONFIG, f"--out {out}: there is no folder {out.parent}.")
    if out.exists() and not force:
        raise UserError(ExitCode.CONFIG, f"--out {out} is there already. Add --force, or move it.")


def _serve(doors: Doors) -> None:
    door = _door(doors, "serve", "Answer over HTTP, with a page to try it.", _run_serve)
    _backend(door)
    door.add_argument("--host", default="127.0.0.1", help="0.0.0.0: every address (127.0.0.1)")
    door.add_argument("--port", type=int, default=8000, help="0: any that is free (8000)")
    door.add_argument("--max-body", type=_positive, default=1 << 20, metavar="BYTES")
    door.add_argument("--max-texts", type=_positive, default=64, metavar="N", help="a request")
    door.add_argument("--max-queue", type=_positive, default=1024, metavar="N", help="texts")


def _run_serve(asked: Any) -> None:
    from nlp_transfer import serving
    from nlp_transfer.classifier import Classifier

    try:
        listening = socket.create_server((asked.host, asked.port))
    except (OSError, OverflowError) as error:
        raise UserError(
            ExitCode.MACHINE, f"{asked.host}:{asked.port} cannot be listened on: {error}."
        ) from error
    with listening:
        classifier = Classifier.load(asked.folder, asked.backend, asked.threads)
        limits = serving.Limits(asked.max_body, asked.max_texts, asked.max_queue)
        app = serving.make_app(classifier, limits, title=str(asked.folder))
        where = "{}:{}".format(*listening.getsockname()[:2])
        print(f"{asked.folder} by {asked.backend}: http://{where}", file=sys.stderr, flush=True)
        serving.serve(app, listening)


def _suspects(doors: Doors) -> None:
    door = _door(doors, "suspects", "List rows, least believable labels first.", _run_suspects)
    door.add_argument("--out", type=Path, default=Path("suspects.csv"), metavar="FILE")
    door.add_argument("--all", action="store_true", help="validation and test as well as train")
    door.add_argument("--neighbours", type=_positive, metavar="N", help="(what suits the labels)")
    door.add_argument("--force", action="store_true", help="replace --out if it is there")


def _run_suspects(asked: Any) -> None:
    from nlp_transfer.suspects import describe, find_suspects, write_suspects
    from nlp_transfer.tables import kind_of

    kind_of(asked.out)
    _refuse_out(asked.out, asked.force)
    found = find_suspects(asked.folder, asked.all, asked.neighbours, asked.threads)
    write_suspects(found, asked.out)
    print(describe(found, asked.out))


def _push(doors: Doors) -> None:
    door = _door(doors, "push", "Upload to the Hub.", _run_push)
    door.add_argument("--repository", required=True, metavar="USER/NAME")
    door.add_argument("--private", action="store_true", help="never where everybody can read")
    door.add_argument("--revision", metavar="BRANCH", help="made where it is missing (main)")
    door.add_argument("--tag", help="a name for the uploaded commit")
    door.add_argument("--pull-request", action="store_true", help="to a repository that exists")
    door.add_argument("--examples", action="store_true", help="with the rows that the card shows")


def _run_push(asked: Any) -> None:
    import logging
    from dataclasses import fields

    from nlp_transfer.config import HubConfig
    from nlp_transfer.hub import push
    from nlp_transfer.limits import impossible_hub

    logging.basicConfig(format="%(message)s")
    logging.getLogger("nlp_transfer").setLevel(logging.INFO)  # why it waits, what it leaves out
    hub = HubConfig(**{field.name: getattr(asked, field.name) for field in fields(HubConfig)})
    if problems := list(impossible_hub(hub)):
        raise UserError(ExitCode.CONFIG, "\n".join(problems))
    print(push(find_model(asked.folder), hub).describe())


def _evaluate(doors: Doors) -> None:
    door = _door(doors, "evaluate", "Measure on labelled texts of any origin.", _run_evaluate)
    _backend(door)
    what = "a file, a glob, a name of conf/dataset or of the Hub"
    door.add_argument("--data", required=True, metavar="DATA", help=what)
    door.add_argument("--split", default="test", help="of a dataset (test)")
    door.add_argument("--text", metavar="COLUMN", help="the texts (as in the run, or text)")
    door.add_argument("--text-pair", metavar="COLUMN", help="the second text of each")
    door.add_argument("--label", metavar="COLUMN", help="the labels (as in the run, or label)")
    door.add_argument("--delimiter", help="between the labels of one cell")
    door.add_argument("--out", type=Path, metavar="FILE", help="as metrics.json, too")


def _run_evaluate(asked: Any) -> None:
    from nlp_transfer.remeasure import LabelledTexts, remeasure
    from nlp_transfer.run_folder import write_json

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
    door.add_argument("--out", type=Path, metavar="FILE", help="all of it as JSON, too")


def _run_compare(asked: Any) -> None:
    from nlp_transfer.compare import as_json, compare
    from nlp_transfer.run_folder import write_text
    from nlp_transfer.side_by_side import table

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
    from nlp_transfer.interruption import heeded
    from nlp_transfer.repeat import repeat

    with heeded():
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
    door.add_argument("--out", type=Path, metavar="FILE", help="all of it as JSON, too")


def _run_curve(asked: Any) -> None:
    from nlp_transfer.interruption import heeded
    from nlp_transfer.learning_curve import learning_curve
    from nlp_transfer.run_folder import write_text

    with heeded():
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
    from nlp_transfer.html_report import write_report

    print(write_report(asked.folder))


if __name__ == "__main__":
    main()
