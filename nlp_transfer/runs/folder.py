"""The folder of a run: its name, its lock, its state and its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf

from nlp_transfer.config.loading import read_config
from nlp_transfer.config.schema import OF_THE_CORPUS, Config, as_dict
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.runs.identity import (
    NO_CODE,
    CodeDigests,
    different_code,
    local_weights,
    run_path,
    settings,
)
from nlp_transfer.runs.names import (
    ADOPTED,
    CODE,
    CONFIG_FILE,
    DATA_REPORT_FILE,
    EXPLANATIONS_FILE,
    LOCK_FILE,
    METRICS_FILE,
    MISTAKES_FILE,
    PREDICTIONS,
    REPORT_FILE,
    REPORT_MD_FILE,
    RUN_FILE,
)
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero
from nlp_transfer.utils.files import read_json, read_run_file, write_json, write_text
from nlp_transfer.utils.locks import Locked, locked
from nlp_transfer.utils.logging import logger

T = TypeVar("T")


class State(Enum):
    """What a run folder holds."""

    absent = "absent"
    unfinished = "unfinished"
    finished = "finished"


@dataclass(frozen=True)
class RunFolder:
    """One run on disk: `config.yaml`, `run.json`, `metrics.json`, `predictions/`, `model/`.

    Only the first process writes.
    """

    path: Path
    state: State  # when it was opened
    process: ProcessContext
    part: str = ""  # of the training, with checkpoints of its own: a fold
    keeps_last: bool = True  # the weights after the last stage, for later commands

    @property
    def model(self) -> Path:
        """The exported checkpoint."""
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        """The file with what was measured."""
        return self.path / METRICS_FILE

    @property
    def mistakes(self) -> Path:
        """The file with the texts that were answered wrong."""
        return self.path / MISTAKES_FILE

    @property
    def data_report(self) -> Path:
        """The file with what was found in the data."""
        return self.path / DATA_REPORT_FILE

    @property
    def checkpoints(self) -> Path:
        """Training checkpoints; gone when the run is finished."""
        return self.path / "checkpoints" / self.part

    def decide(self, name: str, decision: Callable[[], T]) -> T:
        """What `auto` decided: made and written down once, read from there ever after.

        Args:
            decision: makes it, and logs it where a person is to know.
        """

        def decide() -> T:
            decisions = self.read().get("decisions", {})
            if name not in decisions:
                decisions[name] = decision()
                self.write(decisions=decisions)
            return decisions[name]

        return broadcast_from_rank_zero(decide, self.process)

    def read(self) -> dict[str, Any]:
        """What `run.json` says."""
        return read_json(self.path / RUN_FILE)

    def write(self, **entries: Any) -> None:
        """Add entries to `run.json` (first process only)."""
        if self.process.is_first:
            write_json(self.path / RUN_FILE, {**self.read(), **entries})

    def finish(self, **entries: Any) -> None:
        """Mark the run finished and drop what only an unfinished run needs."""
        self.write(**entries, state=State.finished.value)
        if self.process.is_first:
            shutil.rmtree(self.checkpoints, ignore_errors=True)


@contextmanager
def open_run(
    config: Config, fingerprint: str, process: ProcessContext, code: CodeDigests = NO_CODE
) -> Iterator[RunFolder]:
    """Lock the folder of this run for as long as the context lasts, and say what it holds.

    Args:
        code: digests of what was given from Python, by what it is called.

    Raises:
        UserError: another process uses it, it cannot be written, or it holds something else.
    """
    path = run_path(config, fingerprint, code)
    with _locked(path) if process.is_first else nullcontext():
        state = broadcast_from_rank_zero(lambda: _prepare(path, config, fingerprint, code), process)
        yield RunFolder(path, state, process)


def adopt(
    path: Path,
    config: Config,
    fingerprint: str,
    decisions: dict[str, Any],
    code: CodeDigests = NO_CODE,
) -> None:
    """Prepare a new folder for a run for which `auto` has decided already.

    Raises:
        UserError: if the folder holds something else.
    """
    _refuse_foreign(path)
    path.mkdir(parents=True, exist_ok=True)
    entries = {**_unfinished(config, fingerprint, code), "decisions": decisions, ADOPTED: True}
    write_json(path / RUN_FILE, entries)
    write_text(path / CONFIG_FILE, OmegaConf.to_yaml(as_dict(config)))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            _refuse_foreign(path)
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path / LOCK_FILE, wait=False))
        except OSError as error:
            raise UserError(
                ExitCode.RUN_FOLDER,
                f"The run folder {path} cannot be written: {error.strerror}. "
                "Set run_dir elsewhere.",
            ) from error
        except Locked as error:
            raise UserError(
                ExitCode.RUN_FOLDER,
                f"Another process is working on this run ({path}). Wait for it, or change the "
                "configuration (another seed, say) to start a different run.",
            ) from error
        yield


def _prepare(path: Path, config: Config, fingerprint: str, code: CodeDigests) -> State:
    """Bring the folder into the state of an unfinished run, unless it is finished."""
    has_run = (path / RUN_FILE).is_file()
    if has_run and not config.overwrite:
        refuse_another_run(path, config, fingerprint, code)
        entries = read_run_file(path / RUN_FILE)
        state = State(entries["state"])
        if state is State.finished:
            return state
        if (path / CONFIG_FILE).is_file():
            if entries.pop(ADOPTED, False):  # nothing was trained yet
                write_json(path / RUN_FILE, entries)
            else:
                logger.info("%s is unfinished: it continues (overwrite=true starts again)", path)
            _remove_results(path)
            return state
    # run.json first: it is what makes the folder ours, whenever the process may be killed.
    write_json(path / RUN_FILE, _unfinished(config, fingerprint, code))
    _empty(path)
    write_text(path / CONFIG_FILE, OmegaConf.to_yaml(as_dict(config)))
    return State.unfinished if has_run else State.absent


def _unfinished(config: Config, fingerprint: str, code: CodeDigests) -> dict[str, Any]:
    about: dict[str, Any] = {"state": State.unfinished.value, "corpus": fingerprint}
    if code:
        about[CODE] = dict(code)
    if Path(config.checkpoint.name).is_dir():
        about["local_weights"] = local_weights(config)
    return about


def _refuse_foreign(path: Path) -> None:
    """A file, or a folder with things in it and no `run.json` to say that they are ours."""
    if path.is_file():
        message = f"{path} is a file, and a run needs a folder. Name another one."
        raise UserError(ExitCode.RUN_FOLDER, message)
    if not path.is_dir() or (path / RUN_FILE).is_file():
        return
    harmless = (LOCK_FILE, f"{RUN_FILE}.part")
    entries = sorted(entry.name for entry in path.iterdir() if entry.name not in harmless)
    if entries:
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"{path} is not empty and holds no run ({', '.join(entries[:3])}). "
            "Set run_dir to a new folder.",
        )


def refuse_another_run(
    path: Path, config: Config, fingerprint: str, code: CodeDigests = NO_CODE
) -> None:
    """An explicit `run_dir` may hold a run that was asked something else."""
    if not (path / CONFIG_FILE).is_file():
        return  # killed before anything was trained
    # An option that a later version added has its default there.
    there, here = as_dict(read_config(path / CONFIG_FILE)), as_dict(config)
    different = _different_keys(settings(there), settings(here))
    about = read_run_file(path / RUN_FILE)
    if about["corpus"] != fingerprint:
        options = (_of_the_corpus(there), _of_the_corpus(here))
        changed = ["the data (the texts or labels have changed)"]
        different += _different_keys(*options) or changed
    weights = local_weights(config)
    if about.get("local_weights", weights) != weights:
        different.append(f"the weights in {config.checkpoint.name} (they have changed)")
    different += different_code(about.get(CODE, {}), code)
    if different:
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"{path} holds a different run: {'; '.join(different)}. "
            "Set run_dir to another folder, or add overwrite=true to replace it.",
        )


def _of_the_corpus(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config["dataset"][key.removeprefix("dataset.")] for key in OF_THE_CORPUS}


def _different_keys(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`key (value there, value here)`; of another strategy its name alone, not its stages."""
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if "strategy.name" in keys:
        keys = [key for key in keys if not key.startswith("strategy.stages.")]
    return [f"{key} ({_typed(before.get(key))} there, {_typed(now.get(key))} here)" for key in keys]


def _typed(value: Any) -> str:
    """As one types it."""
    return repr(value) if isinstance(value, str) else json.dumps(value, default=str)


def _empty(path: Path) -> None:
    """Remove what a run of ours wrote; whatever else a person keeps there stays."""
    for name in ("checkpoints", "tensorboard"):
        shutil.rmtree(path / name, ignore_errors=True)
    for name in (f"{CONFIG_FILE}.part", DATA_REPORT_FILE, f"{DATA_REPORT_FILE}.part"):
        (path / name).unlink(missing_ok=True)
    _remove_results(path)


def _remove_results(path: Path) -> None:
    """An unfinished run has none, whatever stands there."""
    for name in ("model", "model.part", PREDICTIONS):
        shutil.rmtree(path / name, ignore_errors=True)
    for name in (METRICS_FILE, MISTAKES_FILE, EXPLANATIONS_FILE, REPORT_FILE, REPORT_MD_FILE):
        (path / name).unlink(missing_ok=True)
        (path / f"{name}.part").unlink(missing_ok=True)
