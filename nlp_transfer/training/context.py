"""What every training of a run starts from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedModel

from nlp_transfer.config.schema import Config
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.features.pooling import with_chosen_pooling
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.strategies.recipes import Recipe
from nlp_transfer.models.strategies.stages import Stage, plan_stages, shortened_stages
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.tokenization.encoded import Encoded, EncodedSplit
from nlp_transfer.tokenization.subsets import append_documents
from nlp_transfer.training.extensions import NO_EXTENSIONS, Extensions
from nlp_transfer.training.forecast.budget import Budget, Deadline


@dataclass(frozen=True)
class TrainingContext:
    """What every training of a run starts from; nothing in it is changed by one."""

    pretrained: Pretrained
    encoded: Encoded
    label_rows: EncodedSplit | None  # one text a label
    metrics: Metrics
    config: Config
    folder: RunFolder
    extensions: Extensions = NO_EXTENSIONS
    budget: Budget | None = None  # None: as long as it takes
    folds: np.ndarray | None = None  # of the rows of train, int [rows]

    @property
    def train_rows(self) -> EncodedSplit:
        """The labelled rows of train."""
        return self.encoded.splits["train"]

    def start(
        self, recipe: Recipe, fold: int | None = None
    ) -> tuple[Config, Pretrained, list[Stage]]:
        """A copy of the pretrained model with the recipe's pooling, and the recipe's stages.

        Args:
            fold: the one that the training leaves out.
        """
        config = replace(self.config, strategy=recipe.strategy)
        fresh = replace(self.pretrained, model=copy.deepcopy(self.pretrained.model))
        pretrained = with_chosen_pooling(
            fresh, self.encoded, config, self.folder.decide, self.folds, fold
        )
        rows = len(self.encoded.splits["train"].labels)
        stages = plan_stages(
            recipe.strategy,
            pretrained.structure,
            rows,
            pretrained.model.config.num_labels,
            config.training.batch_size,
            self.encoded.adapted_texts(self.folds is not None),
        )
        if self.budget is not None:
            stages = shortened_stages(stages, self.budget.shares.get(recipe.name, 1.0))
        return config, pretrained, stages

    def for_fold(self, parts: int = 2) -> Extensions:
        """The extensions of a training whose model is not the final one.

        Args:
            parts: trainings that share what is left of the budget, this one included.
        """
        return self._in_time(self.extensions.for_fold(), parts, is_final=False)

    def for_final(self) -> Extensions:
        """Those of the final model."""
        return self._in_time(self.extensions, 1, is_final=True)

    def _in_time(self, extensions: Extensions, parts: int, is_final: bool) -> Extensions:
        if self.budget is None:
            return extensions
        deadline = Deadline(self.budget, self.budget.share(parts), is_final)
        return replace(extensions, deadline=deadline)

    def training_rows(self, recipe: Recipe, train: EncodedSplit) -> EncodedSplit:
        """These rows of train, and the label names where the recipe has them."""
        if not recipe.label_names:
            return train
        assert self.label_rows is not None, "recipes have names only where there are texts"
        return append_documents(train, self.label_rows)

    def predict(self, model: PreTrainedModel, split: EncodedSplit) -> np.ndarray:
        """Logits float32 [documents, labels], on every process."""
        tokens, process = self.config.evaluation.max_tokens, self.folder.process
        return predict_logits(model, split.inputs, self.encoded.collator, tokens, process)

    def predict_splits(
        self, model: PreTrainedModel, splits: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Logits of those of the splits that there are."""
        present = {
            name: self.encoded.splits[name] for name in splits if name in self.encoded.splits
        }
        return {name: self.predict(model, split) for name, split in present.items()}
