"""Prepares and trains runs without an export, for tests that look inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nlp_transfer import compose
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus, load_run_corpus
from nlp_transfer.evaluation.metric_set import Metrics, load_metrics
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.mean_pooling import with_pooling
from nlp_transfer.models.preparation import load_and_encode
from nlp_transfer.models.strategies.stages import Stage, plan_stages
from nlp_transfer.runs.folder import open_run
from nlp_transfer.tokenization.encoded import Encoded
from nlp_transfer.training.loop import train
from nlp_transfer.training.stages.history import StageHistory
from nlp_transfer.utils.distributed import join


@dataclass(frozen=True)
class Prepared:
    """Everything `train` is given."""

    config: Config
    corpus: Corpus
    pretrained: Pretrained
    encoded: Encoded
    stages: list[Stage]
    metrics: Metrics

    def train(self, stages: list[Stage] | None = None) -> list[StageHistory]:
        """Train the stages (all of them by default) in a run folder of their own."""
        with open_run(self.config, self.corpus.fingerprint, join(self.config.training)) as folder:
            chosen = self.stages if stages is None else stages
            arguments = (self.pretrained, self.encoded, chosen, self.metrics, self.config, folder)
            return train(*arguments).history

    def logits(self, split: str) -> np.ndarray:
        """Of the model as it is now."""
        inputs = self.encoded.splits[split].inputs
        return predict_logits(self.pretrained.model, inputs, self.encoded.collator, 512)

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy."""
        return {name: p.clone() for name, p in self.pretrained.model.state_dict().items()}


def prepare(overrides: list[str], folder: Path, overwrite: bool = True) -> Prepared:
    """Compose, load and tokenize."""
    more = ("overwrite=true",) if overwrite else ()
    config = compose(*overrides, f"run_dir={folder}", *more)
    join(config.training)
    corpus = load_run_corpus(config)
    pretrained, encoded = load_and_encode(config, corpus)
    pretrained = with_pooling(pretrained, config.checkpoint.pooling)
    rows, batch_size = len(corpus.splits["train"]), config.training.batch_size
    return Prepared(
        config,
        corpus,
        pretrained,
        encoded,
        plan_stages(
            config.strategy,
            pretrained.structure,
            rows,
            len(corpus.labels),
            batch_size,
            encoded.adapted_texts(corpus.folds is not None),
        ),
        load_metrics(config.evaluation, corpus.labels, corpus.problem),
    )


STRATEGIES = ("feature_extraction", "top_layers", "full", "two_phase", "gradual_unfreezing")
STRATEGIES += ("probe_then_full",)

# Tiny random encoders need a higher rate than pretrained ones to move at all.
FAST = ("training.batch_size=16", "strategy.epochs=1", "training.weight_decay=0.1")


def shallow(strategy: str) -> list[str]:
    """A strategy for an encoder that has only two layers."""
    partial = strategy in ("top_layers", "gradual_unfreezing")
    return [f"strategy={strategy}", *(["strategy.top_layers=1"] if partial else [])]
