"""Run by a launcher in two processes: what each stage of each strategy changes, and who says so.

Called with a folder for the answers, then one line of overrides for each strategy, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import torch.distributed as dist
from prepared_runs import prepare
from transformers import Trainer

step = Trainer.training_step
steps: list[dict[str, object]] = []


def reporting_step(self: Trainer, *arguments: object) -> object:
    """Who takes this step, inside it."""
    entry = {"rank": dist.get_rank(), "world_size": dist.get_world_size(), "pid": os.getpid()}
    steps.append({**entry, "wrapped": type(arguments[0]).__name__})
    return step(self, *arguments)


Trainer.training_step = reporting_step


def main(folder: Path, strategies: dict[str, list[str]]) -> None:
    answers = []
    for name, words in strategies.items():
        prepared = prepare(words, folder / name)
        for stage in prepared.stages:
            steps.clear()
            before = prepared.weights()
            prepared.train([stage])
            after = prepared.weights()
            digest = hashlib.sha256()
            for tensor in after.values():
                digest.update(tensor.contiguous().numpy())
            answers.append(
                {
                    "strategy": name,
                    "stage": stage.name,
                    # A head that a stage before has solved is not touched again.
                    "names": [
                        name
                        for name in after
                        if not stage.after_solver
                        or prepared.pretrained.structure.depth(name)
                        <= prepared.pretrained.structure.layers
                    ],
                    "changed": [name for name in after if not after[name].equal(before[name])],
                    "weights": digest.hexdigest(),
                    "steps": list(steps),
                }
            )
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
