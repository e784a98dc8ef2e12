"""What `run` returns: where everything is, and what was measured."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_transfer.config.constants import CROSS_VALIDATION
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.reporting import console
from nlp_transfer.reporting.html.report import write_report
from nlp_transfer.reporting.run_record import read_record
from nlp_transfer.reporting.splits import reported_split, split_title
from nlp_transfer.runs.folder import State
from nlp_transfer.runs.names import REPORT_FILE, RUN_FILE
from nlp_transfer.utils.files import read_json
from nlp_transfer.utils.logging import in_notebook
from nlp_transfer.utils.text import number, with_interval

HEIGHT = 700  # pixels of the report in a notebook
DECIDING = (CROSS_VALIDATION, "validation")  # the split that decided is the first of these


@dataclass(frozen=True, repr=False)
class Result:
    """A finished run (or, after `dry_run`, only its name).

    Printed, it is the summary of the run; in a notebook it shows its metrics.

    >>> result = Result.read("sentiment")
    >>> result  # doctest: +ELLIPSIS
    Result(sentiment, accuracy 0... [..., ...] on test, ... rows)
    >>> sorted(result.metrics)
    ['test', 'validation']
    >>> 0 <= result.metrics["test"]["metrics"]["accuracy"] <= 1
    True
    """

    folder: Path
    """Of the run: `report.html`, `metrics.json` and the rest."""
    model: Path
    """The exported checkpoint, which `Classifier.load` and `transformers.pipeline` open."""
    metrics: dict[str, dict[str, Any]]
    """By split, as in `metrics.json`: `rows`, `metrics`, `intervals` and more."""
    best: float
    """The metric that chose, on the rows that decided; NaN after a dry run."""
    previous_state: str = field(default=State.absent.value, compare=False)
    """What the folder held before: absent, unfinished or finished."""
    chosen_by: str = ""
    """The name of the metric that `best` is."""
    temporary: bool = field(default=False, compare=False)
    """Whether the folder goes with the estimator that made it."""

    @classmethod
    def read(cls, folder: str | Path) -> Result:
        """The result of a run that is finished, from its folder.

        Raises:
            UserError: it is not the folder of a finished run.
        """
        path = Path(folder)
        record = read_record(path)
        if not record.finished:
            raise UserError(
                ExitCode.RUN_FOLDER,
                f"The run {path} is not finished: it has no result yet. "
                "The command that started it continues it.",
            )
        splits = [name for name in DECIDING if name in record.metrics]
        metric = record.best or ""
        value = value_of(record.metrics, splits[0], metric) if splits else float("nan")
        return cls(path, path / "model", record.metrics, value, State.finished.value, metric)

    def show(self, height: int = HEIGHT) -> None:
        """Show the report: in a notebook below the cell, elsewhere as the path of its file.

        Args:
            height: of the frame in a notebook, in pixels.

        Raises:
            UserError: the folder holds no run (any more).
        """
        file = self.folder / REPORT_FILE
        if not file.is_file():
            write_report(self.folder)
        if not in_notebook():
            print(f"Report: {file}")
            return
        from IPython.display import HTML, display

        # A frame of its own: the page's styles are not to reach the notebook, nor the other way.
        page = html.escape(file.read_text(encoding="utf-8"))
        frame = f'width="100%" height="{height}" style="border: 1px solid #8884"'
        display(HTML(f'<div><iframe title="Report" srcdoc="{page}" {frame}></iframe></div>'))

    def __str__(self) -> str:
        if not self.metrics:
            return repr(self)
        run = read_json(self.folder / RUN_FILE)
        folder = None if self.temporary else self.folder
        return console.summary(run, self.metrics, folder).strip("\n")

    def __repr__(self) -> str:
        if not self.metrics:
            return f"Result({self.folder}, nothing was trained)"
        split = reported_split(self.metrics)
        figures = self.metrics[split]
        name = self.chosen_by if self.chosen_by in figures["metrics"] else [*figures["metrics"]][0]
        folder = "" if self.temporary else f"{self.folder}, "
        return (
            f"Result({folder}{name} {with_interval(name, figures)} on "
            f"{split_title(split)}, {figures['rows']:,} rows)"
        )

    def _repr_html_(self) -> str:
        """A table of the metrics, with a link to the report."""
        if not self.metrics:
            return f"<p>{html.escape(repr(self))}</p>"
        splits = list(self.metrics)
        head = "".join(
            f"<th>{html.escape(split_title(s))} ({self.metrics[s]['rows']:,} rows)</th>"
            for s in splits
        )
        names = dict.fromkeys(name for split in splits for name in self.metrics[split]["metrics"])
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th>"
            + "".join(f"<td>{_cell(name, self.metrics[split])}</td>" for split in splits)
            + "</tr>"
            for name in names
        )
        folder = "" if self.temporary else f"Run: <code>{html.escape(str(self.folder))}</code>. "
        return (
            f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"<p>{folder}<code>result.show()</code> shows the report.</p>"
        )


def value_of(figures: dict[str, dict[str, Any]], split: str, metric: str) -> float:
    """A metric of a split in `metrics.json`; NaN where it is undefined."""
    value = figures[split]["metrics"].get(metric)
    return float("nan") if value is None else value


def _cell(name: str, figures: dict[str, Any]) -> str:
    if figures["metrics"].get(name) is None:
        return "–"
    interval = figures["intervals"].get(name)
    between = "" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]"
    return f"{number(figures['metrics'][name])}{between}"
