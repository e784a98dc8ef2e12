"""What the files of a run folder are called, and some keys of its `run.json`."""

CONFIG_FILE = "config.yaml"
RUN_FILE = "run.json"
METRICS_FILE = "metrics.json"
DATA_REPORT_FILE = "data_report.json"
PREDICTIONS = "predictions"  # a folder
MISTAKES_FILE = "mistakes.json"
EXPLANATIONS_FILE = "explanations.json"
REPORT_FILE = "report.html"
REPORT_MD_FILE = "report.md"
ADOPTED = "adopted"  # in run.json: another run's decisions, and nothing else yet
CODE = "code"  # in run.json: digests of metrics, losses and other code outside this package
LOCK_FILE = ".lock"
