"""Writes the model card of an exported folder, from the files of the run.

The figures are those of `metrics.json`. No row of the data is on it, unless `hub.examples=true`
asks for some.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from omegaconf import OmegaConf

from nlp_transfer.config.choices import LongText
from nlp_transfer.config.loading import default_tree
from nlp_transfer.config.schema import NOT_PART_OF_THE_RESULT, OF_THE_CORPUS, Config, as_dict
from nlp_transfer.data.sources import IN_MEMORY
from nlp_transfer.problems import problem_named
from nlp_transfer.problems.decoder import THRESHOLDS
from nlp_transfer.reporting.card.metadata import (
    CARD_FILE,
    TASK,
    base_metadata,
    data_title,
    metadata,
    model_title,
    without_path,
)
from nlp_transfer.reporting.console import verifier
from nlp_transfer.reporting.markdown import candidates, details, tidy
from nlp_transfer.reporting.run_record import chosen_pooling
from nlp_transfer.reporting.splits import figures_source, reported_split, split_title
from nlp_transfer.utils.files import write_text
from nlp_transfer.utils.text import cell, seconds

TEMPLATE = "card.md.j2"
WEAK = 0.1  # this far below the mean F1 of the classes, a class is called weak
FEW = 30  # rows of a class, below which its figures are called uncertain


def write_card(folder: Path, config: Config, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Write `README.md` into an exported folder, from `run.json` and `metrics.json`."""
    write_text(folder / CARD_FILE, model_card(config, run, metrics))


def model_card(config: Config, run: dict[str, Any], metrics: dict[str, Any]) -> str:
    """The text of the card; its head is metadata that the Hub reads (`model-index`)."""
    base = base_metadata(config.checkpoint)
    template = resources.files("nlp_transfer.reporting.card").joinpath(TEMPLATE).read_text("utf-8")
    card = ModelCard.from_template(
        metadata(config, metrics, base),
        template_str=template,
        **_purpose(config, run, base),
        **_results(metrics),
        **_usage(config, run),
        limits=list(_limits(config, run, metrics)),
        details=details(run, metrics),
        candidates=candidates(run),
        run=run,
        verifier=verifier(run.get("verified", {})),
        outputs=problem_named(run["problem"]).outputs,
        stages=[_stage(stage) for stage in run["stages"]],
        settings=list(_settings(config, run)),
        time=seconds(run["seconds"]) if "seconds" in run else None,
        date=run.get("finished", "")[:10],
        author=config.author,
        repeatable=OmegaConf.to_yaml(repeatable(config)).rstrip(),
        local_files=config.dataset.name is None,
        from_python=config.dataset.name == IN_MEMORY,
        cell=cell,
    )
    return tidy(str(card))


def _purpose(config: Config, run: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    encoder, name = without_path(config.checkpoint.name), base.get("base_model")
    language = base.get("language")
    return {
        "title": model_title(config),
        "encoder": encoder if name is None else f"[{name}](https://huggingface.co/{name})",
        "input": "a text" if config.dataset.text_pair is None else "a pair of texts",
        "output": _output(run),
        "data": data_title(config.dataset),
        "languages": [language] if isinstance(language, str) else language or [],
        "known_license": base.get("license"),
    }


def _output(run: dict[str, Any]) -> str:
    problem, labels = problem_named(run["problem"]), run["labels"]
    names = ": " + ", ".join(f"`{cell(label)}`" for label in labels) if problem.has_labels else ""
    return problem.describe(len(labels)) + names


def _results(metrics: dict[str, Any]) -> dict[str, Any]:
    """The tables of figures by split and by label, as lists of cells."""
    split = reported_split(metrics)
    names = list(metrics[split]["metrics"])
    rows = []
    for name, figures in metrics.items():
        rows.append([split_title(name), f"{figures['rows']:,}", *_cells(names, figures)])
        if "at_one_half" in figures:
            plain = _cells(names, figures["at_one_half"])
            rows.append([f"{split_title(name)}, threshold 0.5", f"{figures['rows']:,}", *plain])
    classes = metrics[split].get("per_class", [])
    columns = ["precision", "recall", "f1"]
    if any("threshold" in row for row in classes):
        columns.append("threshold")
    return {
        "metric_names": names,
        "metric_rows": rows,
        "source": figures_source(metrics),
        "split": split_title(split),
        "class_columns": columns,
        "class_rows": [
            [cell(row["label"])]
            + [f"{row[name]:.4f}" if name in row else "" for name in columns]
            + [f"{row['support']:,}"]
            for row in classes
        ],
    }


def _cells(names: list[str], figures: dict[str, Any]) -> list[str]:
    return [_figure(figures["metrics"].get(n), figures["intervals"].get(n)) for n in names]


def _figure(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def _limits(config: Config, run: dict[str, Any], metrics: dict[str, Any]) -> Iterator[str]:
    split = reported_split(metrics)
    classes = metrics[split].get("per_class", [])
    measured = [row for row in classes if row["support"]]
    mean = sum(row["f1"] for row in measured) / max(len(measured), 1)
    weak = [f"`{cell(row['label'])}`" for row in measured if row["f1"] < mean - WEAK]
    few = [f"`{cell(row['label'])}`" for row in classes if row["support"] < FEW]
    cut = {name: count for name, count in run["cut"].items() if count}
    if problem_named(run["problem"]).one_label:
        yield "Every text gets one of the labels above, also a text that belongs to none of them."
    else:
        yield "Every text gets an answer, also a text that is about something else."
    yield _input_limit(config, run["max_length"])
    if cut:
        counts = ", ".join(f"{n:,} of {run['rows'][name]:,} ({name})" for name, n in cut.items())
        yield f"Rows of the data that were longer: {counts}."
    if weak:
        yield (
            f"Weak labels, F1 on {split_title(split)} more than {WEAK} below the mean: "
            f"{', '.join(weak)}."
        )
    for label, reason in run["thresholds"]["left"].items():
        threshold = run["thresholds"]["thresholds"][label]
        yield f"The threshold of `{cell(label)}` is {threshold:g}: {reason}."
    if few:
        yield (
            f"Uncertain figures, from fewer than {FEW} rows on {split_title(split)}: "
            f"{', '.join(few)}."
        )
    yield "Texts of another language, time or source than the training data were not measured."


def _input_limit(config: Config, length: int) -> str:
    match config.tokenization.long_text:
        case LongText.windows:
            return (
                f"A long text is read in windows of {length} tokens, whose outputs only "
                "`nlp_transfer` combines: a `pipeline` reads the first window."
            )
        case LongText.head_tail:
            return (
                f"Of a long text the beginning and the end are read, {length} tokens together, by "
                "`nlp_transfer` alone: a `pipeline` reads the beginning."
            )
        case _:
            what = "text" if config.dataset.text_pair is None else "pair"
            return (
                f"It reads {length} tokens of a {what}, special tokens included, and not the rest."
            )


def _usage(config: Config, run: dict[str, Any]) -> dict[str, Any]:
    """Code that uses the model, with the column names of the data, and what it returns."""
    pairs, problem = config.dataset.text_pair is not None, problem_named(run["problem"])
    inputs = '{"text": "a text", "text_pair": "its second"}' if pairs else '"a text"'
    sample: Any = {"label": run["labels"][0], "score": 0.9}
    second = f" --text-pair {_shell(config.dataset.text_pair)}" if pairs else ""
    return {
        "task": TASK,
        "call": f"classify([{inputs}], {problem.pipeline_options}truncation=True)",
        "sample": [[sample]] if problem.several else [sample],
        "predict_arguments": '["a text"], ["its second"]' if pairs else '["a text"]',
        "columns": f"--text {_shell(config.dataset.text)}{second}",
        "note": problem.pipeline_note,
        "thresholds_key": THRESHOLDS if run["thresholds"]["thresholds"] else None,
    }


def _shell(name: Any) -> str:
    return str(name) if str(name).isidentifier() else f"'{name}'"


def _stage(stage: dict[str, Any]) -> dict[str, str]:
    """One stage with the hyperparameters that had an effect in it."""
    share = 100 * stage["parameters"] / stage["all_parameters"]
    solved = not stage["steps"]

    def used(name: str) -> str:
        value = stage.get(name)
        return "–" if solved or value is None else f"{value:g}"

    return {
        "name": cell(stage["name"]),
        "learns": stage["learns"],
        "parameters": f"{stage['parameters']:,} ({share:.1f}%)",
        "epochs": used("epochs"),
        "encoder_rate": used("encoder_learning_rate"),
        "head_rate": used("head_learning_rate"),
        "steps": "solved exactly" if solved else f"{stage['steps']:,}",
    }


def _settings(config: Config, run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Hyperparameters of all stages, as they were used."""
    decisions = run.get("decisions", {})
    yield "strategy", str(decisions.get("strategy", config.strategy.name))
    yield "input length", f"{run['max_length']} tokens ({config.tokenization.long_text.value})"
    if any(stage["steps"] for stage in run["stages"]):
        yield "batch size", f"{config.training.batch_size} texts"
        yield "precision", str(decisions.get("precision", config.training.precision.value))
    yield from chosen_pooling(run)
    if config.checkpoint.dropout is not None:
        yield "dropout", f"{config.checkpoint.dropout:g}"
    yield "seed", str(config.seed)


def repeatable(config: Config) -> dict[str, Any]:
    """The settings that change the result and are not defaults; of local paths, the last part."""
    tree, dataset = as_dict(config), config.dataset
    if dataset.name is not None:
        tree["dataset"]["name"] = without_path(dataset.name)
    for split in ("unlabeled",) if dataset.name else ("train", "validation", "test", "unlabeled"):
        names = [Path(place).name for place in dataset.places(split)]
        tree["dataset"][split] = names if len(names) > 1 else next(iter(names), None)
    tree["checkpoint"]["name"] = without_path(config.checkpoint.name)
    return _different(tree, default_tree())


def _different(tree: dict[str, Any], default: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    differing: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        skipped = name in NOT_PART_OF_THE_RESULT and name not in OF_THE_CORPUS
        if skipped or value == default.get(key):
            continue
        if isinstance(value, dict) and isinstance(default.get(key), dict):
            value = _different(value, default[key], f"{name}.")
        if value != {}:
            differing[key] = value
    return differing
