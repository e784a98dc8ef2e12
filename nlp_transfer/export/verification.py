"""Proves that an exported folder answers what was measured, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.problems import Problem
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.tokenization.model_inputs import Texts

TOLERANCE = 1e-5  # of a probability, in float32
# How the variables begin that torchrun and accelerate set for their processes.
LAUNCHER = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_",
    "MASTER_",
    "GROUP_",
    "ROLE_",
    "TORCHELASTIC_",
    "ACCELERATE_",
)


@dataclass(frozen=True)
class Claim:
    """What a folder is said to answer."""

    folder: Path
    texts: Texts
    labels: tuple[str, ...]
    logits: np.ndarray  # float32 [texts, labels]
    problem: Problem = SINGLE_LABEL
    split: str = "validation"  # where the texts are from


class PipelineProbe:
    """A process with `transformers` and without this package that answers for exported folders.

    It takes seconds to start, so it may be started before there is a folder. It ends when it has
    answered, with the context, and with the process that started it, however that one ends.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> PipelineProbe:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Import torch and transformers, and wait."""
        program = resources.files("nlp_transfer.export").joinpath("pipeline_probe.py")
        self._process = subprocess.Popen(
            [sys.executable, "-c", program.read_text("utf-8")],
            cwd=self._folder.name,
            env=_alone(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, questions: Sequence[tuple[str, Texts]]) -> list[list[dict[str, float]]]:
        """The answers to the texts of each folder: probabilities by label.

        Raises:
            UserError: if a folder cannot be opened.
        """
        files = [Path(self._folder.name, f"{name}.json") for name in ("questions", "answers")]
        content = [
            {"folder": folder, "texts": [texts[row] for row in range(len(texts))]}
            for folder, texts in questions
        ]
        files[0].write_text(json.dumps(content), encoding="utf-8")
        if self._process is None or self._process.poll() is not None:
            self.start()
        assert self._process is not None
        _, errors = self._process.communicate(json.dumps([str(file) for file in files]) + "\n")
        if self._process.returncode != 0:
            reason = (errors.strip().splitlines() or ["no message"])[-1]
            raise UserError(
                ExitCode.EXPORT,
                f"The exported folder cannot be opened in a fresh process: {reason}",
            )
        return json.loads(files[1].read_text(encoding="utf-8"))

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def verify(
    claims: Sequence[Claim], fresh_process: bool = True, probe: PipelineProbe | None = None
) -> list[float]:
    """Open each folder in a fresh process that cannot import this package, and ask it raw texts.

    Args:
        fresh_process: False: open it here, as `Classifier.load` does.
        probe: that process, where it was started before.

    Returns:
        The largest difference of a probability, for each claim.

    Raises:
        UserError: if a folder does not answer what is claimed.
    """
    if not fresh_process:
        return [_compare(claim, _ask_here(claim)) for claim in claims]
    questions = [(str(claim.folder.resolve()), claim.texts) for claim in claims]
    with nullcontext(probe) if probe is not None else PipelineProbe() as process:
        answers = process.ask(questions)
    return [_compare(claim, rows) for claim, rows in zip(claims, answers, strict=True)]


def _ask_here(claim: Claim) -> list[dict[str, float]]:
    texts = [claim.texts[row] for row in range(len(claim.texts))]
    pairs = [text["text_pair"] for text in texts if isinstance(text, dict)]
    first = [text["text"] if isinstance(text, dict) else text for text in texts]
    probabilities = Classifier.load(claim.folder).probabilities(first, pairs or None)
    return [dict(zip(claim.labels, row, strict=True)) for row in probabilities.tolist()]


def _alone() -> dict[str, str]:
    """This environment without the launcher's variables, and without the Hub."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER)
    }
    return {**environment, "HF_HUB_OFFLINE": "1"}


def _compare(claim: Claim, answers: list[dict[str, float]]) -> float:
    reported = claim.problem.probabilities(claim.logits)
    if any(set(answer) != set(claim.labels) for answer in answers):
        raise UserError(
            ExitCode.EXPORT,
            f"{claim.folder} has the labels {sorted(answers[0])}, expected {claim.labels}.",
        )
    probabilities = np.array([[answer[label] for label in claim.labels] for answer in answers])
    worst = float(np.abs(probabilities - reported).max())
    # Scores may be larger than one. A different label within the tolerance is a tie.
    allowed = TOLERANCE * max(1.0, float(np.abs(reported).max()))
    rows = np.arange(len(probabilities))
    gaps = reported.max(axis=1) - reported[rows, probabilities.argmax(axis=1)]
    if not (worst <= allowed and gaps.max() <= allowed):  # so that NaN is refused too
        row = int(np.abs(probabilities - reported).max(axis=1).argmax())
        raise UserError(
            ExitCode.EXPORT,
            f"{claim.folder} does not give the {claim.problem.outputs} that were measured: they "
            f"differ by {worst:.2g} (at most {allowed:g}), most on {str(claim.texts[row])[:60]!r}. "
            "The folder is left for inspection.",
        )
    return worst
