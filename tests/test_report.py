"""The report of every shape of run needs nothing but itself, and shows what was measured."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import signal
import struct
import sys
import termios
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import make_rows, write_csv
from omegaconf import OmegaConf
from prepared_runs import prepare
from training_process import tell_at_step

from nlp_transfer import compose, run
from nlp_transfer.cli.main import main
from nlp_transfer.config.schema import as_dict
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.errors import UserError
from nlp_transfer.evaluation.calibration import Calibration
from nlp_transfer.evaluation.confusion import confusions_of
from nlp_transfer.evaluation.error_analysis import EACH, LONGEST, mistakes
from nlp_transfer.evaluation.evaluator import SplitEvaluation, evaluate_split
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.pipeline import Result
from nlp_transfer.problems import Problem
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.regression import REGRESSION
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.reporting.card.card import model_card
from nlp_transfer.reporting.conclusions import calibration_verdict
from nlp_transfer.reporting.console import metric_table, summary
from nlp_transfer.reporting.figures import describe_calibration, split_figures
from nlp_transfer.reporting.html.report import write_report
from nlp_transfer.runs.folder import open_run
from nlp_transfer.tokenization.model_inputs import Pairs, Texts
from nlp_transfer.training.optimization.signals import handle_signals
from nlp_transfer.utils import device
from nlp_transfer.utils.distributed import join
from nlp_transfer.utils.files import indented, write_json
from nlp_transfer.utils.logging import logger
from nlp_transfer.utils.text import percent

Typed = Callable[..., list[str]]
MOST_BYTES = 3_000_000
VOID = {"meta", "br", "link", "img", "input", "hr", "wbr"}
EVIL = "<script>alert('$x_1$')</script> & \"quotes\""
RIGHT_TO_LEFT = "שלום עולם مرحبا"

TOKENS = dict.fromkeys(("p5", "p50", "p95", "p99", "longest", "longer", "max_length"), 64)
DATA_REPORT = {
    "findings": [
        {"level": "good", "check": "a", "sentence": "all well", "rows": [], "examples": []},
        {
            "level": "problem",
            "check": "b",
            "sentence": EVIL,
            "rows": ["train, row 7", "test, row 8"],
            "examples": [EVIL, RIGHT_TO_LEFT],
        },
    ],
    "splits": {
        "train": {"rows": 300, "labels": {EVIL: {"rows": 300, "share": 1.0}}, "tokens": TOKENS},
        "test": {"rows": 9, "labels": {EVIL: {"rows": 9, "share": 1.0}}, "tokens": TOKENS},
    },
}


@dataclass
class Page(HTMLParser):
    """A page as a browser reads it: its elements, what they name, and the text in them."""

    html: str
    tags: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str | None]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def visible_text(self) -> str:
        """Its text in one line."""
        return " ".join(self.text.split())


def read(path: Path) -> Page:
    """A page that needs nothing but itself."""
    assert path.stat().st_size < MOST_BYTES
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "action"):
            assert str(value).startswith("#")
    assert not re.search(r"url\((?!#)|@import", page.html)
    for svg in re.findall(r"<svg.*?</svg>", page.html, flags=re.DOTALL):
        named = svg.replace("<svg", '<svg xmlns:xlink="x"', 1) if "xlink" not in svg else svg
        assert ElementTree.fromstring(named) is not None
    return page


def made(  # noqa: PLR0913
    folder: Path,
    labels: tuple[str, ...],
    logits: np.ndarray,
    references: np.ndarray,
    texts: Texts,
    problem: Problem = SINGLE_LABEL,
) -> Path:
    """The files of a finished run whose test split was answered by these logits."""
    folder.mkdir()
    metrics = load_metrics(EvaluationConfig(), labels, problem)
    slices = {"text length": {"short": np.arange(0, len(logits), 2)}}
    evaluation = evaluate_split(logits, references, metrics, labels, slices)
    evaluations = {"validation": evaluation, "test": evaluation}
    config = compose("+task=classify", "dataset.train=mine.csv", "strategy=two_phase")
    OmegaConf.save(OmegaConf.create(as_dict(config)), folder / "config.yaml")
    write_json(folder / "metrics.json", split_figures(evaluations))
    selected = mistakes("test", evaluation, texts, labels, origins(len(logits)))
    write_json(folder / "mistakes.json", selected)
    write_json(folder / "run.json", run_of(labels, problem, evaluations, metrics.best))
    (folder / "predictions").mkdir()
    np.savez(folder / "predictions/test.npz", logits=logits, references=references)
    return write_report(folder)


def origins(rows: int) -> list[dict[str, Any]]:
    """Where rows come from that are all but the first of a file."""
    return [{"file": "my.csv", "row": row + 2} for row in range(rows)]


def run_of(
    labels: tuple[str, ...],
    problem: Problem,
    evaluations: dict[str, SplitEvaluation],
    best: str,
) -> dict[str, Any]:
    """What `run.json` says of two stages."""
    stage = {
        "learns": "the head",
        "parameters": 1_000,
        "all_parameters": 20_000,
        "epochs": 2.0,
        "steps": 60,
        "seconds": 75.3,
        "encoding_seconds": 0.0,
        "best": 0.5,
        "speed": None,
    }
    log = [{"step": s, "epoch": s / 10, "loss": 1 / s} for s in range(1, 61)]
    log += [{"step": s, f"eval_{best}": s / 120, "eval_log_loss": 0.5} for s in (30, 60)]
    left_out = None if problem is SINGLE_LABEL else "none of this kind"
    calibration = Calibration(1.5 if left_out is None else 1.0, left_out)
    return {
        "state": "finished",
        "corpus": "c0ffee",
        "decisions": {"precision": "fp32"},
        "seed": 42,
        "problem": problem.name,
        "labels": list(labels),
        "rows": {"train": 300, "test": 200},
        "cut": {"train": 3, "test": 0},
        "max_length": 64,
        "versions": {"torch": "2.13.0"},
        "stages": [{"name": "head", **stage, "log": log}, {"name": "all", **stage, "log": log}],
        "thresholds": {"how": "none", "thresholds": {}, "left": {}},
        "calibration": describe_calibration(calibration, evaluations),
        "verified": {"rows": 32, "difference": 1e-7},
        "seconds": 150.6,
    }


def answered(labels: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right more often than not, and references; every label is there."""
    generator = np.random.default_rng(labels)
    references = np.arange(rows) % labels
    logits = generator.normal(size=(rows, labels)).astype(np.float32)
    logits[np.arange(rows), references] += 2
    return logits, references


# Every shape ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4, 77])
def test_one_label_of_few_and_of_many(count: int, tmp_path: Path) -> None:
    labels = tuple(f"label {i}" for i in range(count))
    logits, references = answered(count)
    texts = [f"text {i} " * (1 + i % 30) for i in range(len(references))]
    page = read(made(tmp_path / "run", labels, logits, references, texts))
    page_text = page.visible_text()
    titles = ("Summary", "Stages", "Training", "By label", "Calibration", "Error by text length")
    for title in titles:
        assert (title in page_text) or (title == "By label" and "The weakest labels" in page_text)
    accuracy = (logits.argmax(axis=1) == references).mean()
    assert f"accuracy {accuracy:.3f}" in page_text
    wrong = int((logits.argmax(axis=1) != references).sum())
    assert f"{wrong} of {len(references)} test rows are wrong" in page_text
    # Curves of loss and metric, reliability, coverage, length; a map where a table is too large.
    assert page.tags.count("svg") == 5 + (count == 77)
    if count == 77:
        confusion = np.zeros((77, 77), dtype=int)
        np.add.at(confusion, (references, logits.argmax(axis=1)), 1)
        cells = re.findall(r'<rect x="(\d+)" y="(\d+)"[^>]*class="(\w+)"', page.html)
        assert {(int(y), int(x)) for x, y, _ in cells} == set(
            map(tuple, np.argwhere(confusion).tolist())
        )
        assert {kind for x, y, kind in cells if x == y} == {"right"}
    if count > 2:
        assert "Most often confused" in page_text
    assert "before calibration" in page_text


def test_a_most_frequent_error_is_named_only_where_there_is_one(tmp_path: Path) -> None:
    labels, references = tuple("abcd"), np.arange(40) % 4
    answers = references.copy()
    answers[:4] = (1, 2, 3, 0)  # four kinds, once each
    texts = [f"text {i}" for i in range(40)]
    for answer, named in ((0, False), (1, True)):
        answers[4] = answer  # the fifth row is of a: once more as b
        logits = 5 * np.eye(4, dtype=np.float32)[answers]
        page = read(made(tmp_path / str(answer), labels, logits, references, texts))
        markdown = (tmp_path / str(answer) / "report.md").read_text(encoding="utf-8")
        for text in (page.visible_text(), markdown):
            assert ("The most frequent error" in text) is named


def test_more_labels_than_a_map_can_show_have_their_worst_pairs() -> None:
    counts = np.eye(250, dtype=int) * 9
    counts[3, 4], counts[7, 200], counts[8, 9] = 5, 8, 1
    confusions = confusions_of(counts.tolist(), [str(i) for i in range(250)])
    assert confusions.table is confusions.cells is None
    assert [(p["label"], p["answer"], p["rows"]) for p in confusions.worst] == [
        ("7", "200", 8),
        ("3", "4", 5),
    ]


def test_several_labels(tmp_path: Path) -> None:
    labels = tuple(f"emotion {i}" for i in range(28))
    generator = np.random.default_rng(0)
    references = (generator.random((300, 28)) < 0.1).astype(np.float32)
    logits = (generator.normal(size=(300, 28)) * 2 - 3.5 + 4 * references).astype(np.float32)
    texts = [f"text {i}" for i in range(300)]
    kind = MULTI_LABEL
    page_text = read(made(tmp_path / "run", labels, logits, references, texts, kind)).visible_text()
    assert "any number of 28 labels" in page_text
    assert "All 28 labels" in page_text
    assert "nlp-transfer predict" in page_text
    assert "false positive" in page_text
    assert "false negative (missed)" in page_text


def test_scores(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    references = generator.uniform(0, 5, 3000).astype(np.float32)
    logits = (references + generator.normal(size=3000)).astype(np.float32)[:, None]
    texts = Pairs([f"one {i}" for i in range(3000)], [f"two {i}" * (i % 7) for i in range(3000)])
    kind = REGRESSION
    page = read(made(tmp_path / "run", ("score",), logits, references, texts, kind))
    page_text = page.visible_text()
    entries, metrics = (
        json.loads((tmp_path / "run" / name).read_text()) for name in ("run.json", "metrics.json")
    )
    screen = summary(entries, metrics, tmp_path / "run")
    for text in (page_text, " ".join(screen.split())):
        assert "the scores agree within" in text
        assert "probabilities" not in text
    assert "pearson" in page_text
    assert "Scores on test" in page_text
    worst = int(np.abs(logits[:, 0] - references).argmax())
    assert f">one {worst}<" in page.html
    place = f"row {worst + 2} of my.csv"
    scores = f"true {references[worst]:.4g}, predicted {logits[worst, 0]:.4g}"
    assert f"{place} · {scores}" in page_text


def test_what_the_data_holds_is_shown_as_text(tmp_path: Path) -> None:
    labels = (EVIL, RIGHT_TO_LEFT, "plain")
    logits, references = answered(3)
    texts = [(EVIL, RIGHT_TO_LEFT, "half a pair: \ud83d", "a " * 2000)[i % 4] for i in range(400)]
    report = made(tmp_path / "run", labels, logits, references, texts)
    write_json(tmp_path / "run/data_report.json", DATA_REPORT)
    write_report(tmp_path / "run")
    page = read(report)
    assert page.visible_text().count(EVIL) > 10
    assert page.text.count(RIGHT_TO_LEFT) > 5
    assert ("dir", "auto") in page.attributes
    assert "A problem in the data:" in page.visible_text()
    assert page.visible_text().index("alert") < page.visible_text().index(
        "all well"
    )  # what is worse comes first
    assert "half a pair: ?" in page.text
    assert f"{RIGHT_TO_LEFT}test, row 8" in page.text
    assert max(map(len, re.findall("(?:a )+", page.text))) <= LONGEST + 1
    markdown = (tmp_path / "run/report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown


def test_the_surest_mistakes_of_the_most_frequent_kind_come_first() -> None:
    logits = np.zeros((9, 3), dtype=np.float32)
    references = np.array([0, 0, 0, 0, 0, 0, 0, 1, 2])
    logits[np.arange(8), [1, 1, 1, 1, 1, 1, 2, 2]] = [1, 6, 2, 5, 3, 4, 9, 9]
    logits[8, 2] = 1
    labels, texts = ("a", "b", "c"), [f"text {i}" for i in range(9)]
    evaluation = evaluate_split(
        logits, references, load_metrics(EvaluationConfig(), labels), labels
    )
    report = mistakes("test", evaluation, texts, labels, origins(9))
    assert report["wrong"] == 8
    kinds = [(kind["label"], kind["answer"], kind["rows"]) for kind in report["kinds"]]
    assert kinds == [("a", "b", 6), ("a", "c", 1), ("b", "c", 1)]
    assert [row["row"] for row in report["kinds"][0]["examples"]] == [3, 5, 7, 6, 4][:EACH]
    assert report["kinds"][0]["examples"][0]["confidence"] == pytest.approx(0.9951, abs=1e-4)


def test_a_label_with_a_threshold_of_its_own_is_given_above_it() -> None:
    labels, logits = ("no", "yes"), np.log(np.array([[0.6, 0.4], [0.9, 0.1]], dtype=np.float32))
    references = np.array([0, 1])
    metrics = replace(load_metrics(EvaluationConfig(), labels), thresholds={"yes": 0.3})
    evaluation = evaluate_split(logits, references, metrics, labels)
    report = mistakes("test", evaluation, ["a", "b"], labels, origins(2))
    assert {(kind["label"], kind["answer"]) for kind in report["kinds"]} == {
        ("no", "yes"),
        ("yes", "no"),
    }
    assert report["kinds"][0]["examples"][0]["confidence"] == pytest.approx(0.4)


# Real runs ------------------------------------------------------------------------------------


def lines_of(act: Callable[[], Any]) -> list[str]:
    """What is logged meanwhile."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        act()
    finally:
        logger.removeHandler(handler)
    return lines


def test_a_run_has_a_report_and_no_row_of_the_data_in_its_model(
    typed: Typed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [(f"unmistakable{i} {text}", label) for i, (text, label) in enumerate(make_rows(40, 9))]
    test = write_csv(tmp_path / "test.csv", rows)
    options = ("strategy.epochs=1", "training.precision=bf16", "run_dir=run")
    words = typed(*options, f"dataset.test={test}")
    monkeypatch.setattr(device, "_has_amx", lambda: False)
    results: list[Result] = []
    lines = lines_of(lambda: results.append(run(compose(*words))))
    assert len([line for line in lines if "it has no AMX" in line]) == 1
    result = results[0]
    page = read(result.folder / "report.html")
    assert "Report: run/report.html" in str(results[0])
    assert f"accuracy {result.metrics['test']['metrics']['accuracy']:.3f}" in page.visible_text()
    assert "unmistakable" in page.text
    # Each row is named by its place in the person's own file.
    kinds = json.loads((result.folder / "mistakes.json").read_text())["kinds"]
    for example in (example for kind in kinds for example in kind["examples"]):
        assert example["file"] == str(test)
        assert example["text"] == rows[example["row"] - 1][0]
        assert f"row {example['row']} of {test}" in page.text
    for file in result.model.rglob("*"):
        assert file.is_dir() or b"unmistakable" not in file.read_bytes()
    assert "unmistakable" not in (result.folder / "report.md").read_text(encoding="utf-8")
    for command in ("predict", "serve", "push", "repeat"):
        assert f"nlp-transfer {command} run" in page.text
    before = (result.folder / "report.html").read_bytes()
    main(["report", "run"])
    assert capsys.readouterr().out.strip() == "run/report.html"
    assert (result.folder / "report.html").read_bytes() == before
    # A report that cannot be drawn costs nothing, and says so; whatever is missing is drawn again.
    (result.folder / "report.html").unlink()
    (result.folder / "report.html").mkdir()
    lines = lines_of(lambda: run(compose(*words)))
    assert len([line for line in lines if "could not be drawn (IsADirectoryError" in line]) == 1
    (result.folder / "report.html").rmdir()
    run(compose(*words))
    assert (result.folder / "report.html").read_bytes() == before
    # One that `nlp-transfer report` drew while the run was under way is drawn again.
    (result.folder / "report.html").write_text("not finished")
    os.utime(result.folder / "report.html", (1, 1))
    run(compose(*words))
    assert (result.folder / "report.html").read_bytes() == before


@pytest.mark.slow
def test_a_run_that_stopped_in_its_second_stage_has_a_report_of_what_is_there(
    typed: Typed, tmp_path: Path
) -> None:
    words = typed("strategy=two_phase", "strategy.epochs=2", "strategy.learning_rate=5e-4")
    folder = tmp_path / "run"
    interrupted = prepare(words, folder)
    tell_at_step(interrupted, 14 + 9, signal.SIGTERM)
    with handle_signals(), pytest.raises(UserError, match="SIGTERM after step 9"):
        interrupted.train()
    main(["report", str(folder)])
    page_text = read(folder / "report.html").visible_text()
    assert "This run is not finished" in page_text
    assert "Stage all has a checkpoint at step 9 of 14." in page_text
    assert "accuracy on validation" in page_text
    assert "Training" in page_text
    assert "Use it" not in page_text
    assert "**This run is not finished**" in (folder / "report.md").read_text(encoding="utf-8")
    run(compose(*words, f"run_dir={folder}"))
    page = read(folder / "report.html")
    assert "This run is not finished" not in page.visible_text()
    stages = json.loads((folder / "run.json").read_text())["stages"]
    for stage in stages:
        assert f"{stage['name']} {stage['learns']}" in page.visible_text()
    assert page.html.count(">head</text>") == page.html.count(">all</text>") == 2  # both figures


def test_an_unfinished_run_of_a_recipe_with_label_names_has_a_report(
    typed: Typed, tmp_path: Path
) -> None:
    """What is left to do is read from the recipe that `auto` has chosen."""
    config = compose(*typed("strategy=auto", f"run_dir={tmp_path / 'run'}"))
    with open_run(config, "of the data", join(config.training)) as folder:
        folder.decide("strategy", lambda: "contrastive+names")
    main(["report", str(folder.path)])
    page_text = read(folder.path / "report.html").visible_text()
    assert "This run is not finished" in page_text
    assert "Still to come: embeddings, head." in page_text


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["report", str(tmp_path)])
    assert exit_info.value.code == 6
    assert "is not the folder of a run: it has no run.json" in capsys.readouterr().err


# On the terminal ------------------------------------------------------------------------------


def on_a_terminal(act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """What is written to standard error while it is a terminal of 80 columns."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    chunks: list[bytes] = []

    def drain() -> None:
        while True:
            try:
                chunks.append(os.read(ours, 65536))
            except OSError:  # nobody writes any more
                return

    reader = threading.Thread(target=drain)
    reader.start()
    with os.fdopen(theirs, "w") as screen, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", screen)
        act()
    reader.join()
    os.close(ours)
    return b"".join(chunks).decode()


def test_a_terminal_has_a_bar_with_stage_epoch_loss_and_metric(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(typed("strategy.epochs=3", "evaluation.best=f1_macro"), tmp_path / "run")
    written = ""

    def act() -> None:
        nonlocal written
        written = on_a_terminal(prepared.train, monkeypatch)

    lines = lines_of(act)
    drawn = re.split(r"[\r\n]+", re.sub(r"\x1b\[[A-Z]", "", written))
    assert max(map(len, drawn)) <= 80
    words = r"stage all, epoch \d\.\d/3, loss \d\.\d{3}, f1_macro \d\.\d{3} \|.+\| \d+/21, "
    assert any(re.match(words, bar) for bar in drawn), drawn
    assert len([line for line in lines if "stage all: epoch" in line]) == 3


def test_elsewhere_there_is_a_line_for_each_epoch_and_no_bar(
    typed: Typed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare(typed("strategy.epochs=3"), tmp_path / "run")
    lines = lines_of(prepared.train)
    assert capsys.readouterr() == ("", "")
    epochs = [line for line in lines if "epoch" in line]
    assert [line.split(",")[0].strip() for line in epochs] == [
        f"stage all: epoch {epoch}" for epoch in (1, 2, 3)
    ]


def test_of_many_labels_the_summary_shows_the_weakest(tmp_path: Path) -> None:
    labels = tuple(f"label {i:02}" for i in range(77))
    logits, references = answered(77)
    figures = {
        "test": evaluate_split(logits, references, load_metrics(EvaluationConfig(), labels), labels)
    }
    run_json = run_of(labels, SINGLE_LABEL, figures, "accuracy")
    shown = summary(run_json, split_figures(figures), tmp_path)
    weakest = sorted(figures["test"].per_class, key=lambda row: row["f1"])[:10]
    assert re.findall(r"label \d\d", shown) == [row["label"] for row in weakest]
    assert "the other 67 labels too" in shown


def test_columns_are_as_wide_as_their_figures() -> None:
    def split(rows: int, mse: float, low: float, high: float) -> dict[str, Any]:
        figures = {"rows": rows, "metrics": {"mse": mse}, "intervals": {"mse": [low, high]}}
        return {**figures, "per_class": [], "slices": {}}

    table = metric_table(
        {
            "validation": split(40, 2921.474, 2032.345, 3966.534),
            "test": split(60, 12345.678, 10000.5, 14000.25),
        }
    ).splitlines()
    assert table[0] == "       validation (40 rows)           test (60 rows)"
    assert table[1] == "  mse  2921.474 [2032.345, 3966.534]  12345.678 [10000.500, 14000.250]"


@pytest.mark.parametrize(
    ("rows", "accuracies", "kind"),
    [
        (1000, (0.61, 0.89), "good"),
        (1000, (0.4, 0.7), "over"),
        (1000, (0.8, 1.0), "under"),
        (1000, (0.4, 1.0), "uneven"),
        (20, (0.5, 0.95), "noise"),
    ],
)
def test_the_verdict_on_calibration(rows: int, accuracies: tuple[float, float], kind: str) -> None:
    bins = [
        {"rows": rows, "confidence": confidence, "accuracy": accuracy}
        for confidence, accuracy in zip((0.6, 0.9), accuracies, strict=True)
    ]
    verdict = calibration_verdict(bins)
    assert verdict.kind == kind
    confidence, accuracy = 75.0, 50 * sum(accuracies)
    assert f"mean confidence {confidence:.1f}%, right {accuracy:.1f}%" in verdict.sentence


# Splits and candidates ------------------------------------------------------------------------


def cross_validated(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run of few rows: `metrics.json` has cross-validation alone; three candidates were tried."""
    labels = ("a rather long label that goes on and on, longer than any column", "plain")
    logits, references = answered(2, 64)
    page = made(folder, labels, logits, references, [f"text {i}" for i in range(64)])
    figures = json.loads((folder / "metrics.json").read_text())["test"]
    short = {key: figures[key] for key in ("rows", "metrics", "intervals")}
    write_json(folder / "metrics.json", {"cross_validation": short})
    run_json = json.loads((folder / "run.json").read_text())
    run_json["ladder"] = [
        {
            "recipe": recipe,
            "metric": "accuracy",
            "value": value,
            "standard_error": 0.021,
            "seconds": 12.4,
            "chosen": recipe == "contrastive",
        }
        for recipe, value in (("solved head", 0.5), ("contrastive", 0.75), ("full", 0.625))
    ]
    compared = run_json["calibration"].pop("test")
    run_json["calibration"].pop("validation")
    run_json["calibration"]["cross_validation"] = compared
    run_json["rows"] = {"train": 64}
    write_json(folder / "run.json", run_json)
    (folder / "mistakes.json").unlink()
    write_report(folder)
    assert page.is_file()
    return run_json, {"cross_validation": short}


def test_cross_validation_alone_is_reported_everywhere(tmp_path: Path) -> None:
    run_json, metrics = cross_validated(tmp_path / "run")
    screen = summary(run_json, metrics, tmp_path / "run")
    page = read(tmp_path / "run/report.html").visible_text()
    markdown = (tmp_path / "run/report.md").read_text(encoding="utf-8")
    card = model_card(compose("+task=classify", "dataset.train=mine.csv"), run_json, metrics)
    accuracy = str(metrics["cross_validation"]["metrics"]["accuracy"])[:4]
    for text in (screen, page, markdown, card):
        assert "cross-validation" in text.replace("Cross", "cross")
        assert accuracy in text
        assert "Candidates" in text
        for recipe in ("solved head", "contrastive", "full"):
            assert recipe in text
        assert "test split was used" not in text
    assert re.search(r"contrastive +0\.750 +0\.021 +12 s +chosen", screen)


def test_the_summary_fits_80_columns_and_breaks_no_word(tmp_path: Path) -> None:
    run_json, metrics = cross_validated(tmp_path / "r")
    figures = {**metrics["cross_validation"], "note": "A note of many words. " * 9}
    figures["per_class"] = [
        {"label": "x" * 70, "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 12345}
    ]
    figures["slices"] = {"a column": [{"value": "y" * 90, **metrics["cross_validation"]}]}
    splits = {name: figures for name in ("validation", "test", "cross_validation")}
    screen = summary(run_json, splits, Path("run"))
    assert max(map(len, screen.splitlines())) <= 80
    words = {word for line in screen.splitlines() for word in line.split()}
    assert {"words.", "probabilities", "parameters"} <= words


def test_figures_are_written_in_lines_and_read_as_they_were() -> None:
    figures = {
        "rows": 2,
        "é": [],
        "labels": ["a", "b"],
        "matrix": [[1, 2], [3, 4]],
        "of": {"x": ()},
    }
    written = indented(figures)
    assert json.loads(written) == json.loads(json.dumps(figures))
    assert '\n  "labels": ["a", "b"],\n  "matrix": [\n    [1, 2],\n    [3, 4]\n  ],' in written


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0%"), (0.0004, "<0.1%"), (0.001, "0.1%"), (0.25, "25.0%"), (1, "100.0%")],
)
def test_a_little_share_is_not_zero(share: float, text: str) -> None:
    assert percent(share) == text
