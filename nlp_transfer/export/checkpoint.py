"""Writes the folder and proves that it answers the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.problems import Problem
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.tokenization.model_inputs import Texts
from nlp_transfer.utils.logging import quiet

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


def export(
    model: PreTrainedModel, tokenizer: Any, name: str, max_length: int, folder: Path
) -> Path:
    """Write a plain checkpoint (safetensors, tokenizer, labels by name), whole or not at all.

    Args:
        name: of the checkpoint that was fine-tuned.
        max_length: tokens of the longest input, so that a `pipeline` cuts where training did.
    """
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    # The path of the weights on this machine stays out of the files.
    model.config._name_or_path = tokenizer.name_or_path = name
    tokenizer.init_kwargs.pop("name_or_path", None)
    tokenizer.model_max_length = max_length
    if hasattr(tokenizer, "backend_tokenizer"):
        # Some checkpoints carry a fixed padding, which a server would pay for with every text.
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    with quiet():
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    mask = os.umask(0)
    os.umask(mask)
    for file in partial.iterdir():
        file.chmod(0o666 & ~mask)  # safetensors are written for their owner's eyes only
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder


def verify(claims: Sequence[Claim], fresh_process: bool = True) -> list[float]:
    """Open each folder in a fresh process that cannot import this package, and ask it raw texts.

    Args:
        fresh_process: False: open it here, as `Classifier.load` does.

    Returns:
        The largest difference of a probability, for each claim.

    Raises:
        UserError: if a folder does not answer what is claimed.
    """
    if not fresh_process:
        return [_compare(claim, _ask_here(claim)) for claim in claims]
    answers = _ask([(str(claim.folder.resolve()), claim.texts) for claim in claims])
    return [_compare(claim, rows) for claim, rows in zip(claims, answers, strict=True)]


def _ask_here(claim: Claim) -> list[dict[str, float]]:
    texts = [claim.texts[row] for row in range(len(claim.texts))]
    pairs = [text["text_pair"] for text in texts if isinstance(text, dict)]
    first = [text["text"] if isinstance(text, dict) else text for text in texts]
    probabilities = Classifier.load(claim.folder).probabilities(first, pairs or None)
    return [dict(zip(claim.labels, row, strict=True)) for row in probabilities.tolist()]


def _ask(questions: list[tuple[str, Texts]]) -> list[list[dict[str, float]]]:
    program = (
        resources.files("nlp_transfer.export").joinpath("pipeline_probe.py").read_text("utf-8")
    )
    with tempfile.TemporaryDirectory() as elsewhere:
        questions_file, answers_file = (
            Path(elsewhere, "questions.json"),
            Path(elsewhere, "answers.json"),
        )
        content = [
            {"folder": folder, "texts": [texts[row] for row in range(len(texts))]}
            for folder, texts in questions
        ]
        questions_file.write_text(json.dumps(content), encoding="utf-8")
        process = subprocess.run(
            [sys.executable, "-c", program, str(questions_file), str(answers_file)],
            cwd=elsewhere,
            env=_alone(),
            capture_output=True,
            text=True,
        )
        if process.returncode != 0:
            reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(
                ExitCode.EXPORT,
                f"The exported folder cannot be opened in a fresh process: {reason}",
            )
        return json.loads(answers_file.read_text(encoding="utf-8"))


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
            f"{claim.folder} does not give the probabilities that were measured: they differ by "
            f"{worst:.2g} (at most {allowed:g}), most on {str(claim.texts[row])[:60]!r}. "
            "The folder is left for inspection.",
        )
    return worst
