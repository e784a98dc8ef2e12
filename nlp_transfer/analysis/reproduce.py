"""Runs a stored configuration again, and says whether it gives the same figures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from nlp_transfer.analysis.finished_runs import Finished, is_finished, open_finished
from nlp_transfer.config.loading import read_config
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.delivery import HubConfig
from nlp_transfer.data.corpus import load_run_corpus
from nlp_transfer.data.memory import Tables, tables_by_split
from nlp_transfer.data.sources import IN_MEMORY
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.registry import Metric
from nlp_transfer.pipeline import run_and_print
from nlp_transfer.runs.folder import adopt, refuse_another_run
from nlp_transfer.runs.identity import CodeDigests, different_code, given_code
from nlp_transfer.runs.names import CODE, CONFIG_FILE, RUN_FILE
from nlp_transfer.runs.predictions import read_predictions
from nlp_transfer.runs.provenance import differences, provenance
from nlp_transfer.training.extensions import Extensions, MetricFunction
from nlp_transfer.training.losses import Loss
from nlp_transfer.utils.distributed import join

DEFINES_THE_RUN = ("corpus", "checkpoint weights")  # without the same, nothing is repeated


@dataclass(frozen=True)
class Repeated:
    """Two runs that were asked the same."""

    before: Finished
    after: Finished
    differences: list[str]  # of what they were made with
    changed: list[str]  # metrics
    trained: bool = True  # now; False: the repetition was finished already

    def __str__(self) -> str:
        lines = [f"Repeated: {self.before.folder} in {self.after.folder}"]
        if not self.trained:
            lines[0] += " (finished before; nothing was trained now, another --out trains again)"
        lines += [f"  different: {difference}" for difference in self.differences]
        lines += [f"  {change}" for change in self.changed]
        logits = max(_largest_move(self.before, self.after, split) for split in self.after.measured)
        if not self.changed:
            lines.append("  every metric is the same to the last digit")
        lines.append(f"  largest difference of a logit: {logits:.2g}")
        return "\n".join(lines)


def repeat(
    folder: Path,
    into: Path | None = None,
    data: Any = None,
    metrics: Sequence[Metric | MetricFunction] = (),
    callbacks: Sequence[TrainerCallback | type[TrainerCallback]] = (),
    loss: Loss | Callable[..., Any] | None = None,
) -> Repeated:
    """Run a finished run's configuration again; what `auto` decided is read, not decided anew.

    Tokens and features are computed again too. An interrupted repetition goes on.

    Args:
        into: the folder of the new run; None: beside the old one, `<run>-repeat`.
        data: of a run whose data was given from Python, the same again; likewise the metrics,
            callbacks and loss.

    Raises:
        UserError: if the data, the checkpoint or what was given are not what they were.
    """
    before = open_finished(folder)
    into = into or folder.with_name(f"{folder.name}-repeat")
    code = Extensions.of(metrics, callbacks, loss).digests()
    _refuse_other_code(before, data, code)
    tables = None if data is None else tables_by_split(data)
    with tempfile.TemporaryDirectory() as stores:
        config = _again(before, into, stores)
        different = _differences(before, config, tables)
        fatal = [difference for difference in different if difference.startswith(DEFINES_THE_RUN)]
        if fatal:
            raise UserError(
                ExitCode.DATA,
                f"{folder} cannot be repeated here: {'; '.join(different)}. Put back the data and "
                "the checkpoint it was trained with.",
            )
        trained = not is_finished(into)
        if trained:
            if not ((into / RUN_FILE).is_file() and (into / CONFIG_FILE).is_file()):
                decisions, code = before.about.get("decisions", {}), before.about.get(CODE, {})
                adopt(into, config, before.about["corpus"], decisions, code)
            run_and_print(config, data, metrics, callbacks, loss)
        else:
            refuse_another_run(into, config, before.about["corpus"], before.about.get(CODE, {}))
    after = open_finished(into)
    return Repeated(before, after, different, list(_changed(before, after)), trained)


def _refuse_other_code(before: Finished, data: Any, code: CodeDigests) -> None:
    """What was given from Python has to be given again."""
    missing = ["its data"] if before.settings["dataset.name"] == IN_MEMORY and data is None else []
    missing += different_code(given_code(before.about.get(CODE, {})), code)
    if missing:
        raise UserError(
            ExitCode.DATA,
            f"{before.folder} was given from Python what no command can read again: "
            f"{', '.join(missing)}. Give the same again: from nlp_transfer.analysis.reproduce "
            "import repeat, repeat(Path(FOLDER), data=…, metrics=…, callbacks=…, loss=…).",
        )


def _again(before: Finished, into: Path, stores: str) -> Config:
    """The stored configuration with the same threads, for another folder; nothing is uploaded."""
    config = read_config(before.folder / CONFIG_FILE)
    revision = config.checkpoint.revision or before.about["checkpoint"]["commit"]
    return replace(
        config,
        run_dir=str(into),
        overwrite=False,
        checkpoint=replace(config.checkpoint, revision=revision),
        tokenization=replace(config.tokenization, folder=f"{stores}/tokens"),
        features=replace(config.features, folder=f"{stores}/features"),
        training=replace(config.training, threads=before.about["machine"]["threads"], report_to=[]),
        hub=HubConfig(),
    )


def _differences(before: Finished, config: Config, tables: Tables | None) -> list[str]:
    """Of versions, machine, checkpoint and data, seen before anything is trained."""
    names = ("versions", "machine", "checkpoint", "corpus")
    there = {name: before.about[name] for name in names}
    corpus = load_run_corpus(config, tables)
    here = {**provenance(config, None, join(config.training)), "corpus": corpus.fingerprint}
    here["checkpoint"]["commit"] = before.about["checkpoint"]["commit"]  # it is asked for by name
    return differences(there, here)


def _changed(before: Finished, after: Finished) -> Iterator[str]:
    for split, figures in before.measured.items():
        now = after.measured[split]["metrics"]
        for name, value in figures["metrics"].items():
            if now[name] != value:
                yield f"{split} {name}: {value} there, {now[name]} here"


def _largest_move(before: Finished, after: Finished, split: str) -> float:
    (one, _), (other, _) = (read_predictions(r.folder, split) for r in (before, after))
    return float(np.abs(one - other).max())
