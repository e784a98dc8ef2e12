"""The time that this package takes to answer the texts of a file.

python scripts/measured_predictions.py FOLDER FILE
"""

import json
import sys
import time

from datasets import load_dataset

from nlp_transfer import Classifier

folder, file = sys.argv[1:]
texts = load_dataset("parquet", data_files={"test": file})["test"]["text"]
classifier = Classifier.load(folder)
start = time.perf_counter()
answers = classifier.predict(list(texts))
seconds = time.perf_counter() - start
print(json.dumps({"total": seconds, "labels": [answer.label for answer in answers]}))
