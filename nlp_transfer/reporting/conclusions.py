"""One sentence of conclusion for each section of a report, and the paragraph on its top."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from nlp_transfer.evaluation.confusion import confusions_of
from nlp_transfer.reporting.run_record import RunRecord
from nlp_transfer.reporting.splits import split_title
from nlp_transfer.utils.text import number, percent

FEW_ROWS = 10  # of a label, below which its figures are called uncertain
NEGLIGIBLE = 0.02  # calibration error that is called good whatever the number of rows
# The mean of |x| for a standard normal x: the calibration error that chance alone gives.
MEAN_DEVIATION = 0.8
CHANCE = 1.5  # times the error that chance alone gives is still called chance


class Verdict(NamedTuple):
    """How far confidences can be trusted."""

    kind: str  # good, noise, over, under, uneven
    sentence: str


def calibration_verdict(bins: list[dict[str, Any]], documents: int | None = None) -> Verdict:
    """Compare mean confidence with accuracy, by bins as `reliability` gives them.

    Args:
        documents: where a row may have several labels, the bins hold a decision for each label of
            each of so many rows.

    The model is called calibrated where its calibration error is at most `NEGLIGIBLE`; an error
    no larger than sampling noise makes it on as many rows is called noise.
    """
    rows = sum(part["rows"] for part in bins)
    confidence = sum(part["rows"] * part["confidence"] for part in bins) / rows
    accuracy = sum(part["rows"] * part["accuracy"] for part in bins) / rows
    error = sum(part["rows"] * abs(part["confidence"] - part["accuracy"]) for part in bins) / rows
    chance = MEAN_DEVIATION * sum(
        (part["rows"] * part["confidence"] * (1 - part["confidence"])) ** 0.5 for part in bins
    )
    figures = (
        f"mean confidence {percent(confidence)}, right {percent(accuracy)}, "
        f"expected calibration error {number(error)}"
    )
    if error <= NEGLIGIBLE:
        return Verdict("good", f"The model is well calibrated: {figures}.")
    if error <= CHANCE * chance / rows:
        unit = "rows" if documents in (None, rows) else "decisions (rows × labels)"
        sentence = f"No calibration error beyond sampling noise on {rows:,} {unit}: {figures}."
        return Verdict("noise", sentence)
    gap = confidence - accuracy
    if gap > error / 2:
        advice = "trust a confidence less than it says"
        return Verdict("over", f"The model is over-confident: {figures}; {advice}.")
    if gap < -error / 2:
        return Verdict("under", f"The model is under-confident: {figures}.")
    return Verdict(
        "uneven",
        f"The model is over-confident in some ranges and under-confident in others: {figures}.",
    )


def results(record: RunRecord) -> str:
    """The main metric with its interval, and the weakest label."""
    figures = record.metrics[record.split]
    name = record.shown(figures)
    value, interval = figures["metrics"][name], figures["intervals"].get(name)
    between = f" (95% interval {number(interval[0])} to {number(interval[1])})" if interval else ""
    sentence = (
        f"On {figures['rows']:,} {split_title(record.split)} rows, {name} is {number(value)}"
        f"{between}"
    )
    if not record.greater_is_better(name):
        sentence += "; lower is better"
    return f"{sentence}."


def weakest_first(classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Labels by F1; those without rows, which were not measured, are the last ones."""
    return sorted(classes, key=lambda row: (not row["support"], row["f1"]))


def weakest_label(record: RunRecord) -> str | None:
    """The label with the lowest F1, and whether it rests on enough rows."""
    classes = record.metrics[record.split].get("per_class", [])
    if len(classes) < 2:
        return None
    weakest = weakest_first(classes)[0]
    count = weakest["support"]
    rows = f"{count:,} row{'' if count == 1 else 's'}"
    doubt = "; with so few rows this is uncertain" if count < FEW_ROWS else ""
    figures = f"F1 {number(weakest['f1'])}, {rows}{doubt}"
    return f"The weakest label is {isolated(weakest['label'])} ({figures})."


def most_confused(record: RunRecord) -> str | None:
    """The most frequent error of a single-label model; None where several are as frequent."""
    matrix = record.metrics[record.split].get("confusion")
    worst = confusions_of(matrix, record.run["labels"]).worst if matrix else []
    if not worst or (len(worst) > 1 and worst[1]["rows"] == worst[0]["rows"]):
        return None
    first = worst[0]
    times = "once" if first["rows"] == 1 else f"{first['rows']:,} times"
    label, answer = isolated(first["label"]), isolated(first["answer"])
    return f"The most frequent error: {label} is predicted as {answer}, {times}."


def baseline(record: RunRecord) -> str | None:
    """The accuracy of always predicting the most frequent label."""
    figures = record.metrics[record.split]
    classes = figures.get("per_class", [])
    if record.problem is None or not record.problem.one_label or not classes:
        return None
    common = max(classes, key=lambda row: row["support"])
    share = percent(common["support"] / figures["rows"])
    return f"Always predicting {isolated(common['label'])} would be right for {share} of the rows."


def data(record: RunRecord) -> str | None:
    """How many problems and warnings the data check found."""
    findings = record.data.get("findings")
    if findings is None:
        return None
    counts = {level: sum(f["level"] == level for f in findings) for level in ("problem", "warning")}
    levels = [f"{n} {level}{'' if n == 1 else 's'}" for level, n in counts.items() if n]
    if not levels:
        return "The data check found no problem."
    return f"The data check found {' and '.join(levels)}."


def training(record: RunRecord) -> str | None:
    """What learned and how long it took."""
    trained = [stage for stage in record.stages if stage.done]
    if not trained:
        return None
    steps = sum(stage.steps for stage in trained)
    last = trained[-1].description
    stages = f"{len(trained)} stage{'' if len(trained) == 1 else 's'}"
    work = f"{steps:,} gradient steps" if steps else "an exact solver, without gradient steps"
    best = last.get("best")
    reached = "" if best is None or record.best is None else f"; best {record.best} {number(best)}"
    return f"Training took {stages} and {work}{reached}."


def slices(cuts: list[dict[str, Any]]) -> Iterator[str]:
    """For each column the weakest and the strongest part."""
    for cut in cuts:
        parts = [part for part in cut["parts"] if part["figure"] is not None]
        if len(parts) < 2:
            continue
        low = min(parts, key=lambda part: part["figure"])
        high = max(parts, key=lambda part: part["figure"])
        yield (
            f"By {cut['by']}, {cut['metric']} lies between {number(low['figure'])} "
            f"({isolated(low['value'])}) and {number(high['figure'])} ({isolated(high['value'])})."
        )


def errors(record: RunRecord) -> str | None:
    """How many rows are wrong."""
    wrong = record.mistakes.get("wrong")
    if wrong is None:
        return None
    rows, split = record.mistakes["rows"], split_title(record.mistakes["split"])
    return f"{wrong:,} of {rows:,} {split} rows are wrong ({percent(wrong / rows)})."


def overview(record: RunRecord) -> str:
    """The paragraph on top of the report: task, result, comparison, weak points, calibration."""
    sentences: list[str | None] = [_task(record)]
    if record.metrics:
        sentences += [results(record), baseline(record), weakest_label(record)]
        sentences.append(most_confused(record))
        figures = record.metrics[record.split]
        bins = figures.get("reliability")
        sentences.append(calibration_verdict(bins, figures["rows"]).sentence if bins else None)
    return " ".join(sentence for sentence in sentences if sentence)


def _task(record: RunRecord) -> str:
    text = "text" if record.config.dataset.text_pair is None else "pair of texts"
    if record.problem is None:
        return f"This model predicts the label of a {text}."
    output = record.problem.describe(len(record.run["labels"]))
    return f"This model answers a {text} with {output}."


def isolated(name: str) -> str:
    """A name between Unicode isolates, so that its direction does not reorder the sentence."""
    return f"“\u2068{name}\u2069”"
