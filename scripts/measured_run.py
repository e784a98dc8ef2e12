"""One run of this package without its export, and what it took.

python scripts/measured_run.py +task=classify dataset.train=… strategy=full
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

from nlp_transfer import compose
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.features.pooling import with_chosen_pooling
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.loading import load_pretrained
from nlp_transfer.models.strategies.recipes import named_strategy
from nlp_transfer.models.strategies.stages import plan_stages
from nlp_transfer.runs.folder import open_run
from nlp_transfer.tokenization.encoding import encode
from nlp_transfer.training.loop import train
from nlp_transfer.utils.distributed import join


def measured_run(
    config: Config, splits: tuple[str, ...] = ("validation", "test")
) -> dict[str, Any]:
    """Accuracy and seconds, from reading the data to the last evaluation, of one label a text.

    Returns:
        Accuracy by split; `total` (all of it), `seconds` (finding the weights), `encoding` (of
        these, on frozen layers); `epoch` (without that); the parameters that learn; the epochs of
        each stage.
    """
    start = time.perf_counter()
    process = join(config.training)
    corpus = load_corpus(config.dataset, config.seed)
    rows = len(corpus.splits["train"])
    with open_run(config, corpus.fingerprint, process) as folder:
        if config.strategy.is_auto:
            config.strategy = named_strategy(config.strategy, "full")
        metrics = load_metrics(config.evaluation, corpus.labels)
        pretrained = load_pretrained(config.checkpoint, corpus.labels, config.seed)
        pretrained.model.to(process.device)
        tokenizer, tokens = pretrained.tokenizer, pretrained.max_tokens
        encoded = encode(corpus, tokenizer, tokens, config.tokenization)
        prepared = time.perf_counter()
        pretrained = with_chosen_pooling(pretrained, encoded, config, folder.decide)
        batch_size = config.training.batch_size
        stages = plan_stages(
            config.strategy,
            pretrained.structure,
            rows,
            pretrained.model.config.num_labels,
            batch_size,
        )
        history = train(pretrained, encoded, stages, metrics, config, folder).history
    trained = time.perf_counter()
    after_the_first = sum(stage.seconds - stage.encoding_seconds for stage in history)
    epoch = after_the_first / sum(stage.epochs for stage in stages)
    accuracy = {}
    for split in splits:
        inputs, labels = encoded.splits[split].inputs, encoded.splits[split].labels
        tokens = config.evaluation.max_tokens
        logits = predict_logits(pretrained.model, inputs, encoded.collator, tokens)
        accuracy[split] = float((logits.argmax(axis=1) == labels).mean())
    return {
        **accuracy,
        "total": time.perf_counter() - start,
        "seconds": trained - prepared,
        "encoding": sum(stage.encoding_seconds for stage in history),
        "parameters": max(stage.parameters for stage in history),
        "epochs": [stage.epochs for stage in stages],
        "epoch": epoch,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = compose(*sys.argv[1:], f"run_dir={folder}/run")
        figures = measured_run(config, ("test",))
    print(json.dumps({**figures, "accuracy": figures["test"]}))


if __name__ == "__main__":
    main()
