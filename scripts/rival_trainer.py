"""A plain `Trainer`, as in the course: no features of this package.

python scripts/rival_trainer.py DATA CHECKPOINT EPOCHS SEED [--padding max_length] [--top-layers 1]
"""

import argparse
import json
import tempfile
import time

import numpy as np
from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    set_seed,
)

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", help="a folder with train, validation and test as Parquet")
parser.add_argument("checkpoint")
parser.add_argument("epochs", type=float)
parser.add_argument("seed", type=int)
parser.add_argument("--padding", choices=("longest", "max_length"), default="longest")
parser.add_argument("--top-layers", type=int, help="that learn beside the head (default: all)")
options = parser.parse_args()

set_seed(options.seed)
start = time.perf_counter()
files = {split: f"{options.data}/{split}.parquet" for split in ("train", "validation", "test")}
splits = load_dataset("parquet", data_files=files).class_encode_column("label")
tokenizer = AutoTokenizer.from_pretrained(options.checkpoint)
labels = splits["train"].features["label"].num_classes
model = AutoModelForSequenceClassification.from_pretrained(options.checkpoint, num_labels=labels)
learning_rate = 5e-5
if options.top_layers is not None:
    learning_rate = 1e-4 if options.top_layers else 1e-3
    layers = model.bert.encoder.layer
    for frozen in (model.bert.embeddings, *layers[: len(layers) - options.top_layers]):
        frozen.requires_grad_(False)
cut = {"truncation": True, "max_length": 128}
if options.padding == "max_length":
    cut["padding"] = "max_length"
splits = splits.map(lambda rows: tokenizer(rows["text"], **cut), batched=True)
arguments = TrainingArguments(
    output_dir=tempfile.mkdtemp(),
    num_train_epochs=options.epochs,
    seed=options.seed,
    learning_rate=learning_rate,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=32,
    eval_strategy="epoch",
    save_strategy="no",
    report_to=[],
)
trainer = Trainer(
    model=model,
    args=arguments,
    train_dataset=splits["train"],
    eval_dataset=splits["validation"],
    processing_class=tokenizer,  # batches are padded to their longest text
    compute_metrics=lambda p: {"accuracy": np.mean(p[0].argmax(-1) == p[1])},
)
before = time.perf_counter()
trainer.train()
trained = time.perf_counter()
accuracy = trainer.evaluate(splits["test"])["eval_accuracy"]
total = time.perf_counter() - start
epoch = (trained - before) / options.epochs
print(json.dumps({"total": total, "epoch": epoch, "accuracy": accuracy}))
