"""Writes the model card: what a stranger has to know about an exported folder, from the run itself.

Everything in it stands in the run's own files; the numbers are those of `metrics.json`. No row of
the data is in it, unless `hub.examples=true` asks for some.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from httpx2 import HTTPError
from huggingface_hub import EvalResult, ModelCard, ModelCardData, hf_hub_download
from omegaconf import OmegaConf
from yaml import YAMLError

from nlp_transfer.config.loading import default_tree
from nlp_transfer.config.schema import (
    NOT_PART_OF_THE_RESULT,
    CheckpointConfig,
    Config,
    DatasetConfig,
    LongText,
    as_dict,
)
from nlp_transfer.data.sources import EMBEDDED as EMBEDDED_REVIEWS
from nlp_transfer.models.loading import EMBEDDED
from nlp_transfer.problems import problem_named
from nlp_transfer.problems.decoder import THRESHOLDS
from nlp_transfer.reporting.markdown import candidates, details
from nlp_transfer.reporting.splits import figures_source, reported_split, split_title
from nlp_transfer.utils.files import write_text
from nlp_transfer.utils.text import cell

CARD_FILE = "README.md"
TASK = "text-classification"
PACKAGED = "embedded:"  # before the names of what ships with this package
EMBEDDED_BASE = {"base_model": "sentence-transformers/all-MiniLM-L6-v2", "license": "apache-2.0"}
# The Hub's name of a metric, where ours says more.
HUB_METRICS = {
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
AVERAGES = ("micro", "macro", "weighted")
WEAK = 0.1  # this far below the mean F1 of the classes, a class is called weak
FEW = 30  # rows of a class, below which its figures say little


def write_card(folder: Path, config: Config, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Write `README.md` into an exported folder, from what `run.json` and `metrics.json` say."""
    write_text(folder / CARD_FILE, model_card(config, run, metrics))


def model_card(config: Config, run: dict[str, Any], metrics: dict[str, Any]) -> str:
    """The text of the card; its head is metadata that the Hub reads (`model-index`)."""
    base = _base(config.checkpoint)
    parts = (
        _purpose(config, run, base.get("base_model")),
        _worth(metrics),
        details(run, metrics),
        _limits(config, run, metrics),
        _use(config, run),
        _making(config, run),
        candidates(run),
        _repeating(config),
    )
    body = "\n".join(line for part in parts for line in (*part, ""))
    return f"---\n{_metadata(config, metrics, base).to_yaml()}\n---\n\n{body}"


def _metadata(config: Config, metrics: dict[str, Any], base: dict[str, Any]) -> ModelCardData:
    name = config.dataset.name
    return ModelCardData(
        **base,
        datasets=None if name == EMBEDDED_REVIEWS else _of_the_hub(config.dataset),
        eval_results=list(_results(config.dataset, metrics)),
        library_name="transformers",
        metrics=sorted(
            {_hub_metric(name) for split in metrics.values() for name in split["metrics"]}
        ),
        model_name=_title(config),
        pipeline_tag=TASK,
        tags=["nlp_transfer"],
    )


def _results(dataset: DatasetConfig, metrics: dict[str, Any]) -> Iterator[EvalResult]:
    for split, found in metrics.items():
        for name, value in found["metrics"].items():
            if value is None:
                continue
            average = [average for average in AVERAGES if name.endswith(f"_{average}")]
            yield EvalResult(
                task_type=TASK,
                task_name="Text Classification",
                dataset_type=_of_the_hub(dataset) or "files",
                dataset_name=_data_name(dataset),
                dataset_config=dataset.subset,
                dataset_split=split,
                dataset_revision=dataset.revision,
                metric_type=_hub_metric(name),
                metric_name=name,
                metric_value=value,
                metric_args={"average": average[0]} if average else None,
            )


def _hub_metric(name: str) -> str:
    for average in AVERAGES:
        name = name.removesuffix(f"_{average}")
    return HUB_METRICS.get(name, name)


def _base(checkpoint: CheckpointConfig) -> dict[str, Any]:
    """What the base checkpoint's own card says of its licence; a local folder's name is private."""
    if checkpoint.name == EMBEDDED:
        return dict(EMBEDDED_BASE)
    local = Path(checkpoint.name)
    try:
        card = local / CARD_FILE
        if not local.is_dir():
            given = (checkpoint.name, CARD_FILE)
            card = Path(hf_hub_download(*given, revision=checkpoint.revision))
        said = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
        licence = {name: said.get(name) for name in ("license", "license_name", "license_link")}
    # No card there, none that can be read, or no Hub: its licence is not known.
    except (OSError, ValueError, YAMLError, HTTPError):
        licence = {}
    return licence if local.is_dir() else {"base_model": checkpoint.name, **licence}


def _purpose(config: Config, run: dict[str, Any], base: str | None) -> Iterator[str]:
    encoder = _private(config.checkpoint.name)
    if base is not None:
        encoder = f"[{base}](https://huggingface.co/{base})"
    asked = "a text" if config.dataset.text_pair is None else "a pair of texts"
    yield f"# {_title(config)}"
    yield ""
    yield (
        f"Answers {asked} with {_answers(run)}. It is {encoder}, "
        f"fine-tuned on {run['rows']['train']:,} texts of {_data_name(config.dataset)}."
    )


def _answers(run: dict[str, Any]) -> str:
    problem, labels = problem_named(run["problem"]), run["labels"]
    listed = ": " + ", ".join(f"`{cell(label)}`" for label in labels) if problem.has_labels else ""
    return problem.describe(len(labels)) + listed


def _worth(metrics: dict[str, Any]) -> Iterator[str]:
    names = list(metrics[reported_split(metrics)]["metrics"])
    yield "## What it is worth"
    yield ""
    yield f"| split | rows | {' | '.join(names)} |"
    yield "|---" * (len(names) + 2) + "|"
    for split, found in metrics.items():
        plain = {f"{split}, at one half": found["at_one_half"]} if "at_one_half" in found else {}
        for what, figures in ({split: found} | plain).items():
            cells = [_figure(name, figures) for name in names]
            yield f"| {split_title(what)} | {found['rows']:,} | {' | '.join(cells)} |"
    yield ""
    yield figures_source(metrics)
    split, classes = _classes(metrics)
    if not classes:  # scores
        return
    yield ""
    shown = ["precision", "recall", "f1"]
    if any("threshold" in row for row in classes):
        yield "A label is given where its probability is above its threshold, chosen on validation."
        yield ""
        shown.append("threshold")
    yield f"| label ({split_title(split)}) | {' | '.join(shown).replace('f1', 'F1')} | rows |"
    yield "|---" * (len(shown) + 2) + "|"
    for row in classes:
        figures = " | ".join(f"{row[name]:.4f}" if name in row else "" for name in shown)
        yield f"| {cell(row['label'])} | {figures} | {row['support']:,} |"


def _limits(config: Config, run: dict[str, Any], metrics: dict[str, Any]) -> Iterator[str]:
    split, classes = _classes(metrics)
    mean = sum(row["f1"] for row in classes) / max(len(classes), 1)
    weak = [f"`{cell(row['label'])}`" for row in classes if row["f1"] < mean - WEAK]
    few = [f"`{cell(row['label'])}`" for row in classes if row["support"] < FEW]
    cut = {name: count for name, count in run["cut"].items() if count}
    yield "## Limits"
    yield ""
    if problem_named(run["problem"]).one_label:
        yield "- Every text gets one of the labels above, also one that is about something else."
    else:
        yield "- It answers every text, also one that is about something else."
    yield _reading(config, run["max_length"])
    if cut:
        counts = ", ".join(f"{n:,} of {run['rows'][name]:,} ({name})" for name, n in cut.items())
        yield f"- Texts that were longer, and were cut here too: {counts}."
    if weak:
        yield f"- Weak classes, F1 on {split} more than {WEAK} below the mean: {', '.join(weak)}."
    for label, why in run["thresholds"]["left"].items():
        threshold = run["thresholds"]["thresholds"][label]
        yield f"- The threshold of `{cell(label)}` is {threshold:g}: {why}."
    if few:
        yield f"- Figures that say little, of fewer than {FEW} rows on {split}: {', '.join(few)}."
    yield "- Texts of another language, time or source than its data's were not measured."


def _reading(config: Config, length: int) -> str:
    match config.tokenization.long_text:
        case LongText.windows:
            return (
                f"- It reads long texts in windows of {length} tokens, joined into one answer by "
                "`nlp_transfer` alone: a `pipeline` reads the first window."
            )
        case LongText.head_tail:
            return (
                f"- It reads the beginning and the end of a text, {length} tokens together, with "
                "`nlp_transfer` alone: a `pipeline` reads the beginning."
            )
        case _:
            what = "text" if config.dataset.text_pair is None else "pair"
            return f"- It reads {length} tokens of a {what}, special ones included, not the rest."


def _use(config: Config, run: dict[str, Any]) -> Iterator[str]:
    paired = config.dataset.text_pair is not None
    pipeline = 'classify(["a text", "another"], truncation=True)'
    ours = '["a text"]'
    if paired:
        pipeline = 'classify([{"text": "a text", "text_pair": "its second"}], truncation=True)'
        ours = '["a text"], ["its second"]'
    options = problem_named(run["problem"]).pipeline_options
    pipeline = pipeline.replace("truncation", f"{options}truncation")
    yield "## How to use it"
    yield ""
    yield "```python"
    yield "from transformers import pipeline"
    yield ""
    yield f'classify = pipeline("{TASK}", "FOLDER")  # or its name on the Hub'
    yield f"{pipeline}  # without it, long texts raise"
    yield "```"
    yield ""
    yield (
        "It is a plain Transformers checkpoint. With `nlp_transfer` installed, "
        f'`Classifier.load("FOLDER").predict({ours})` does the same, and faster.'
    )
    if run["thresholds"]["thresholds"]:
        yield f"A `pipeline` gives probabilities; `config.json` has `{THRESHOLDS}`."
    second = " --text-pair other" if paired else ""
    yield ""
    yield "```bash"
    yield (
        f"nlp-transfer predict FOLDER --file texts.csv --text review{second} --out answers.parquet"
    )
    yield "nlp-transfer export FOLDER --onnx  # then predict with --backend onnx, without torch"
    yield "```"


def _making(config: Config, run: dict[str, Any]) -> Iterator[str]:
    yield "## How it was made"
    yield ""
    yield f"Strategy `{config.strategy.name}`, seed {config.seed}:"
    yield ""
    for stage in run["stages"]:
        share = 100 * stage["parameters"] / stage["all_parameters"]
        steps = f"{stage['steps']:,} steps" if stage["steps"] else "solved exactly"
        yield (
            f"- {stage['name']}: {stage['learns']} ({stage['parameters']:,} of "
            f"{stage['all_parameters']:,} parameters, {share:.1f}%), {steps}"
        )
    yield ""
    yield (
        f"A fresh process answered {run['verified']['rows']:,} validation texts from this folder "
        f"as was measured: probabilities equal within {run['verified']['difference']:.1e}."
    )
    yield ""
    yield "Versions: " + ", ".join(f"{name} {number}" for name, number in run["versions"].items())


def _repeating(config: Config) -> Iterator[str]:
    yield "## How to repeat it"
    yield ""
    files = ", the files with the texts where you stand" if config.dataset.name is None else ""
    yield f"Save this as `mine/task/repeat.yaml`{files}:"
    yield ""
    yield "```yaml"
    yield "# @package _global_"
    yield from OmegaConf.to_yaml(repeatable(config)).rstrip().splitlines()
    yield "```"
    yield ""
    yield "```bash"
    yield "python -m nlp_transfer.train --config-dir mine +task=repeat"
    yield "```"


def repeatable(config: Config) -> dict[str, Any]:
    """What was asked for and changes the result; of local paths, the last part alone."""
    tree = as_dict(config)
    if config.dataset.name is None:
        for split in ("train", "validation", "test"):
            path = tree["dataset"][split]
            tree["dataset"][split] = None if path is None else Path(path).name
    else:
        tree["dataset"]["name"] = _private(config.dataset.name)
    tree["checkpoint"]["name"] = _private(config.checkpoint.name)
    return _different(tree, default_tree())


def _different(tree: dict[str, Any], default: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in NOT_PART_OF_THE_RESULT or value == default.get(key):
            continue
        if isinstance(value, dict) and isinstance(default.get(key), dict):
            value = _different(value, default[key], f"{name}.")
        if value != {}:
            kept[key] = value
    return kept


def _title(config: Config) -> str:
    return f"{config.task}-{re.split('[/:]', _private(config.checkpoint.name))[-1]}"


def _private(name: str) -> str:
    """Where a folder lies on this machine is nobody's business."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def _data_name(dataset: DatasetConfig) -> str:
    name = _of_the_hub(dataset)
    if name is None:
        return "local files"
    return f"{name} ({dataset.subset})" if dataset.subset else name


def _of_the_hub(dataset: DatasetConfig) -> str | None:
    """The name of a public dataset, or of the one in this package; None: files of this machine."""
    if dataset.name is None or Path(dataset.name).is_dir():
        return None
    return dataset.name.removeprefix(PACKAGED)


def _classes(metrics: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    split = reported_split(metrics)
    return split, metrics[split].get("per_class", [])


def _figure(name: str, found: dict[str, Any]) -> str:
    value, interval = found["metrics"].get(name), found["intervals"].get(name)
    if value is None:
        return "undefined"
    low_to_high = f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
    return f"{value:.4f}{low_to_high}"
