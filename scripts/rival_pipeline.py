"""Plain inference: `pipeline("text-classification")`, one text at a time or in batches.

python scripts/rival_pipeline.py FOLDER FILE BATCH_SIZE
"""

import json
import sys
import time

from datasets import load_dataset
from transformers import pipeline

folder, file, batch_size = sys.argv[1:]
texts = load_dataset("parquet", data_files={"test": file})["test"]["text"]
classify = pipeline("text-classification", folder)
start = time.perf_counter()
answers = classify(list(texts), truncation=True, batch_size=int(batch_size))
seconds = time.perf_counter() - start
print(json.dumps({"total": seconds, "labels": [answer["label"] for answer in answers]}))
