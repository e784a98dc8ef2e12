"""Parts of long texts: a stage that compares embeddings need not read them whole.

What a text is about shows in every part of it, and a part that is drawn anew each time is a text
of its own to learn from. Which part is a function of the seed and of the place in the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlp_transfer.tokenization.encoded import Draw, Reread
from nlp_transfer.tokenization.model_inputs import Inputs, joined


@dataclass(frozen=True)
class CroppedTexts:
    """The rows of single texts as they are read this time, at most `length` tokens of each."""

    inputs: Inputs
    around: tuple[int, int]  # special tokens before a text and behind it
    length: int
    seed: int
    changed: Reread | None = None  # what the rows are before a part of them is taken

    def __call__(self, draws: Sequence[Draw]) -> Inputs:
        """The inputs of the rows that are drawn."""
        if self.changed is None:
            whole = [self.inputs[draw.row] for draw in draws]
        else:
            inputs = self.changed(draws)
            whole = [inputs[row] for row in range(len(draws))]
        parts = [self._part(row, draw) for row, draw in zip(whole, draws, strict=True)]
        return joined({name: [part[name] for part in parts] for name in parts[0]})

    def _part(self, row: dict[str, np.ndarray], draw: Draw) -> dict[str, np.ndarray]:
        tokens = len(row["input_ids"])
        if tokens <= self.length:
            return row
        before, behind = self.around
        generator = np.random.default_rng([self.seed, draw.epoch, draw.place])
        start = before + int(generator.integers(tokens - self.length + 1))
        end = start + self.length - before - behind
        places = np.r_[:before, start:end, tokens - behind : tokens]
        return {name: values[places] for name, values in row.items()}
