"""A plain `Trainer`, as in the course: everything learns, texts padded to 128 tokens.

python scripts/rival_max_length.py DATA CHECKPOINT EPOCHS SEED
"""

import json
import sys
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

data, checkpoint, epochs, seed = sys.argv[1:]
set_seed(int(seed))
start = time.perf_counter()
files = {split: f"{data}/{split}.parquet" for split in ("train", "validation", "test")}
splits = load_dataset("parquet", data_files=files).class_encode_column("label")
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
labels = splits["train"].features["label"].num_classes
model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=labels)
splits = splits.map(
    lambda rows: tokenizer(rows["text"], truncation=True, max_length=128, padding="max_length"),
    batched=True,
)
arguments = TrainingArguments(
    output_dir=tempfile.mkdtemp(),
    num_train_epochs=float(epochs),
    seed=int(seed),
    learning_rate=5e-5,
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
    processing_class=tokenizer,
    compute_metrics=lambda p: {"accuracy": np.mean(p[0].argmax(-1) == p[1])},
)
before = time.perf_counter()
trainer.train()
trained = time.perf_counter()
accuracy = trainer.evaluate(splits["test"])["eval_accuracy"]
total = time.perf_counter() - start
epoch = (trained - before) / float(epochs)
print(json.dumps({"total": total, "epoch": epoch, "accuracy": accuracy}))
