"""The summary of a run for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nlp_transfer.evaluation.registry import greater_is_better
from nlp_transfer.evaluation.slices import LENGTH
from nlp_transfer.problems import problem_named
from nlp_transfer.reporting.conclusions import weakest_first
from nlp_transfer.reporting.run_record import held_out_texts
from nlp_transfer.reporting.splits import reported_split, split_title
from nlp_transfer.runs.names import REPORT_FILE
from nlp_transfer.utils.text import COLUMNS, aligned, number, shortened, with_interval, wrapped

MOST_LABELS = 20  # on the screen; of more, the weakest
WEAKEST = 10
INTERVALS = "95% bootstrap intervals over documents"


def summary(run: dict[str, Any], metrics: dict[str, Any], folder: Path | None) -> str:
    """The end of a run on the terminal, from `run.json` and `metrics.json`.

    Args:
        folder: None: a temporary one, of an estimator.
    """
    parts = (
        _candidate_lines(run.get("ladder", [])),
        _stage_lines(run),
        _budget_lines(run),
        _metric_lines(metrics, run.get("lower_is_better", ())),
        _threshold_lines(run["thresholds"], metrics),
        _calibration_lines(run["calibration"]),
        _folder_lines(run, folder),
    )
    return "\n".join(line for part in map(list, parts) if part for line in ("", *part))


def metric_table(metrics: dict[str, dict[str, Any]]) -> str:
    """`metrics.json` for a terminal."""
    return "\n".join(_metric_lines(metrics))


def _candidate_lines(ladder: list[dict[str, Any]]) -> Iterator[str]:
    if not ladder:
        return
    rows = [["recipe", ladder[0]["metric"], "standard error", "time", ""]]
    for candidate in ladder:
        error = candidate["standard_error"]
        rows.append(
            [
                shortened(candidate["recipe"]),
                number(candidate["value"]),
                "–" if error is None else f"{error:.3f}",
                f"{candidate['seconds']:.0f} s",
                "chosen" if candidate["chosen"] else "",
            ]
        )
    yield "Candidates"
    yield from (f"  {line}" for line in aligned(rows))


def _stage_lines(run: dict[str, Any]) -> Iterator[str]:
    yield "Training"
    for stage in run["stages"]:
        seconds, encoding = stage["seconds"], stage["encoding_seconds"]
        time = f"{seconds:.0f} s" + (f", {encoding:.0f} of them encoding" if encoding >= 1 else "")
        steps = f"{stage['steps']} steps" if stage["steps"] else "solved"
        share = 100 * stage["parameters"] / stage["all_parameters"]
        yield from wrapped(
            f"  {stage['name']}: {stage['learns']}, {stage['parameters']:,} of "
            f"{stage['all_parameters']:,} parameters ({share:.1f}%), {steps}, {time}"
        )
        if (text := held_out_texts(stage["log"])) is not None:
            yield f"    {text}"


def _budget_lines(run: dict[str, Any]) -> Iterator[str]:
    budget = run.get("budget")
    if budget is not None:
        yield from wrapped(budget["sentence"])


def _metric_lines(metrics: dict[str, Any], known_lower: Sequence[str] = ()) -> Iterator[str]:
    names = list(next(iter(metrics.values()))["metrics"])
    lines = list(_side_by_side(names, metrics))
    if max(map(len, lines)) > COLUMNS:
        lines = [
            line
            for split, figures in metrics.items()
            for line in _side_by_side(list(figures["metrics"]), {split: figures})
        ]
    yield from lines
    if any(figures["intervals"] for figures in metrics.values()):
        yield f"  In brackets: {INTERVALS}."
    lower = [name for name in names if name in known_lower or not greater_is_better(name)]
    if lower:
        yield from wrapped(f"  Lower is better: {', '.join(lower)}.")
    notes = [m["note"] for m in metrics.values() if "note" in m]
    for name, figures in metrics.items():
        notes += [f"{split_title(name)}: {note}" for note in figures.get("notes", ())]
    for note in dict.fromkeys(notes):
        yield from wrapped(f"  {note}")
    split = reported_split(metrics)
    yield from _class_lines(split, metrics[split].get("per_class", []))
    for by, slices in metrics[split].get("slices", {}).items():
        if by != LENGTH:  # only the columns of evaluation.slices; metrics.json has the rest
            yield from _slice_lines(by, split, slices)


def _side_by_side(names: list[str], metrics: dict[str, Any]) -> Iterator[str]:
    titles = [f"{split_title(split)} ({m['rows']:,} rows)" for split, m in metrics.items()]
    rows = [["", *titles]]
    for name in names:
        known = (name in figures["metrics"] for figures in metrics.values())
        cells = zip(metrics.values(), known, strict=True)
        rows.append([name, *(with_interval(name, f) if has else "–" for f, has in cells)])
    yield from (f"  {line}" for line in aligned(rows, "<"))


def _class_lines(split: str, classes: list[dict[str, Any]]) -> Iterator[str]:
    if not classes:  # scores
        return
    rows = classes
    if len(classes) > MOST_LABELS:
        rows = weakest_first(classes)[:WEAKEST]
    yield ""
    title = f"label ({split_title(split)})"
    width = max(len(title), *(len(shortened(row["label"])) for row in rows))
    yield f"  {title:<{width}}{'precision':>11}{'recall':>8}{'f1':>8}{'rows':>8}"
    for row in rows:
        yield (
            f"  {shortened(row['label']):<{width}}{row['precision']:>11.3f}{row['recall']:>8.3f}"
            f"{row['f1']:>8.3f}{row['support']:>8}"
        )
    if len(rows) < len(classes):
        others = len(classes) - len(rows)
        yield f"  These are the weakest; metrics.json has the other {others} labels too."


def _slice_lines(by: str, split: str, slices: list[dict[str, Any]]) -> Iterator[str]:
    first = next(iter(slices[0]["metrics"]))
    title = f"{shortened(by)} ({split_title(split)})"
    width = min(max(len(title), *(len(shortened(part["value"])) for part in slices)), COLUMNS - 32)
    yield ""
    yield f"  {title:<{width}}{'rows':>8}  {first}"
    for part in slices:
        value = shortened(part["value"])
        yield f"  {value:<{width}}{part['rows']:>8}  {with_interval(first, part)}"


def _threshold_lines(choice: dict[str, Any], metrics: dict[str, Any]) -> Iterator[str]:
    values = choice["thresholds"].values()
    if not values:
        return
    between = f"{min(values):.3f}" + (f" to {max(values):.3f}" if len(values) > 1 else "")
    on = split_title("validation" if "validation" in metrics else reported_split(metrics))
    yield from wrapped(
        f"Thresholds for {choice['how']}, chosen on {on}: {between} (written to config.json)"
    )
    for label, reason in choice["left"].items():
        yield from wrapped(f"  {label}: {choice['thresholds'][label]:g}, {reason}")
    for split, figures in metrics.items():
        plain = figures.get("at_one_half")
        if plain is None:
            continue
        changed = [
            f"{name} {with_interval(name, plain)}"
            for name, value in plain["metrics"].items()
            if value != figures["metrics"][name]
        ]
        yield from wrapped(f"  {split_title(split)} at a threshold of 0.5: {', '.join(changed)}")


def _calibration_lines(calibration: dict[str, Any]) -> Iterator[str]:
    if calibration["left_out"] is not None:
        yield from wrapped(f"Calibration: none ({calibration['left_out']}).")
        return
    yield from wrapped(
        f"Calibration: temperature {calibration['temperature']:.3f}, part of the last layer"
    )
    splits = {name: part for name, part in calibration.items() if isinstance(part, dict)}
    for split, errors in splits.items():
        if "before" not in errors:
            continue
        before, after = errors["before"], errors["after"]
        figures = (
            f"{words} {before[name]:.3f} → {after[name]:.3f}"
            for name, words in (("log_loss", "log loss"), ("ece", "ECE"))
        )
        yield f"  {split_title(split):<18}{'   '.join(figures)}"


def verifier(verified: dict[str, Any]) -> str:
    """Who opened the exported folder, from `run.json`."""
    return "a new process" if verified.get("fresh_process", True) else "the process of the run"


def _folder_lines(run: dict[str, Any], folder: Path | None) -> Iterator[str]:
    verified = run["verified"]
    where = "its folder" if folder is None else "this folder"
    sentence = (
        f"  Verified: {verifier(verified)} predicted {verified['rows']} texts from {where}; "
        f"the {problem_named(run['problem']).outputs} agree within {verified['difference']:.1e}."
    )
    if folder is None:
        yield "Model: lasts as long as this object; save(FOLDER) keeps it"
        yield from wrapped(sentence)
        return
    model = folder / "model"
    yield f"Model: {model}"
    yield from wrapped(sentence)
    yield f"  transformers.pipeline('text-classification', '{model}')"
    if (folder / REPORT_FILE).is_file():
        yield f"Report: {folder / REPORT_FILE}"
