"""Everything a run can be told, as dataclasses.

Defaults live here and nowhere else; the YAML files of `conf/` say only what differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

# An exported folder answers without OmegaConf, which is imported only to read and write these.
MISSING: Any = "???"  # OmegaConf's word for a value that has to be given
AUTO = "auto"
RUNS = "runs"  # the folder of everything that is written without being told where
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
# What a file of labelled texts may be.
FILE_SUFFIXES = (
    ".csv",
    ".tsv",
    ".jsonl",
    ".ndjson",
    ".json",
    ".parquet",
    ".arrow",
    ".feather",
    ".orc",
    ".xlsx",
)
# A file of one of these kinds may be compressed; a .zip has one member.
COMPRESSED_SUFFIXES = (".gz", ".zst", ".zip")


class Precision(Enum):
    """Arithmetic of the training step; the weights stay in float32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Schedule(Enum):
    """How the learning rate falls after the warm-up."""

    linear = "linear"
    cosine = "cosine"
    constant = "constant"


class Cache(Enum):
    """Whether the output of a stage's frozen layers is stored."""

    auto = "auto"
    """Where the stage has more than one epoch."""
    on = "on"
    off = "off"


class Pooling(Enum):
    """What the head sees of a text's tokens."""

    auto = "auto"
    """Compared on train where a head is solved, else the checkpoint's own."""
    first = "first"
    mean = "mean"


class Solver(Enum):
    """How a stage finds its weights."""

    gradient = "gradient"
    exact = "exact"
    """The head alone: a logistic regression, solved."""


class LongText(Enum):
    """What is done with a text that is longer than an input."""

    truncate = "truncate"
    """Its end is lost."""
    head_tail = "head_tail"
    """Its middle is lost."""
    windows = "windows"
    """It becomes several inputs, with one answer."""


class WindowPooling(Enum):
    """How the logits of a document's windows become its own."""

    mean = "mean"
    max = "max"


class Cut(Enum):
    """How splits are cut from train."""

    stratified = "stratified"
    """Drawn by the seed: every label keeps its share."""
    hash = "hash"
    """By the text or the group alone: no row changes side when the data grow."""


class ClassWeights(Enum):
    """How much a row counts in the loss, by its label."""

    none = "none"
    balanced = "balanced"
    """Every label as much as any other."""
    sqrt = "sqrt"
    """Half-way."""


class OnLeak(Enum):
    """What is done with rows of train whose text is in validation or test, too."""

    warn = "warn"
    drop = "drop"
    """From train."""
    error = "error"


class OnUnusable(Enum):
    """What is done with rows that have no text, or no label."""

    error = "error"
    drop = "drop"
    """Leave them out; the data report counts and lists them."""


class Thresholds(Enum):
    """For what it is chosen from which probability on a label is given."""

    auto = "auto"
    """F1 where a text may have several labels, else none."""
    none = "none"
    """One half; of one label a text, the likeliest."""
    f1 = "f1"
    precision = "precision"
    """As many as a wanted precision allows."""


class StoredAs(Enum):
    """The precision of stored features."""

    float32 = "float32"
    float16 = "float16"


@dataclass
class CheckpointConfig:
    """Which pretrained encoder, and how far it is trusted."""

    name: str = MISSING
    """A Hub name, a local folder, or embedded:all-MiniLM-L6-v2."""
    revision: str | None = None
    pretrained: bool = True
    """False: the same architecture from random weights."""
    dropout: float | None = None
    """None: the checkpoint's own."""
    pooling: Pooling = Pooling.auto
    trust_remote_code: bool = False
    allow_pickle: bool = False
    """Weights that are not safetensors can run code when they are read."""


@dataclass
class DatasetConfig:
    """Where the labelled texts are, and what their columns are called."""

    name: str | None = None
    """A Hub name or embedded:reviews; None: files."""
    subset: str | None = None
    """The Hub's second name: glue has sst2, mrpc …."""
    revision: str | None = None
    train: str = "train"
    """A split of the Hub's dataset; without name, a file or a glob."""
    validation: str | None = None
    """None: cut from train."""
    test: str | None = None
    text: str = "text"
    text_pair: str | None = None
    """The column of the second text, where each row is a pair."""
    label: Any = "label"
    """A column; or one 0/1 column for each label, as a list."""
    problem: str = AUTO
    """The kind of label by its name (single_label, multi_label, regression …); auto: by what the
    label column holds."""
    order: list[str] | None = None
    """With problem=ordinal: the labels from the lowest to the highest; None: by their integers."""
    delimiter: str | None = None
    """Between the labels of one cell, where a text may have several."""
    label_names: dict[str, str] | None = None
    """{0: ham, 1: spam} gives names to numbers."""
    label_descriptions: dict[str, str] | None = None
    """A sentence for each label, used as one more training text of it, as {billing: refunds}."""
    limit: int | None = None
    """A stratified, seeded part of train."""
    on_leak: OnLeak = OnLeak.warn
    """A text of train that is in validation or test, too."""
    on_empty: OnUnusable = OnUnusable.error
    """Rows whose text (or second text, or group) is empty: an error, or left out."""
    on_unlabeled: OnUnusable = OnUnusable.error
    """Rows without a label: an error, or left out."""
    clean_labels: bool = False
    """Merge labels that differ only in case, spaces or Unicode form into the most frequent one."""
    encoding: str | None = None
    """Of text files, as in cp1252; None: UTF-8, or UTF-16 where the file begins with its mark."""
    separator: str | None = None
    """Between the cells of CSV and TSV files; None: by the suffix, or as the header shows."""
    seed: int = 42
    """Draws the splits, the folds and the part that `limit` takes; `seed` draws the rest."""
    validation_fraction: float = 0.1
    """Cut from train where there is no validation split."""
    test_fraction: float = 0.1
    """Cut from train where train is all there is."""
    cut: Cut = Cut.stratified
    id: str | None = None
    """A column that names each row, shown with its text in the report; training ignores it."""
    group: str | None = None
    """A column: rows with the same value stay in one split."""
    folds: int | None = None
    """Of train; one of them is the test split."""
    fold: int = 0
    """Which one."""

    @property
    def label_columns(self) -> list[str]:
        """One column, or one for each label."""
        return self.label if isinstance(self.label, list) else [self.label]


@dataclass
class TokenizationConfig:
    """How texts are cut into tokens."""

    max_length: int | None = None
    """Tokens; None: as many as the checkpoint can read."""
    long_text: LongText = LongText.truncate
    stride: int = 0
    """Tokens that neighbouring windows share."""
    window_pooling: WindowPooling = WindowPooling.mean
    folder: str = f"{RUNS}/.tokens"
    """Where tokens are kept for other processes and later runs."""


@dataclass
class StageConfig:
    """One stretch of training: how many top layers learn, how fast, for how long."""

    layers: str = MISSING
    """All (with the embeddings), encoder (all layers, without them), 0 (the head alone), 2 (the top
    two)."""
    head: bool = True
    """Whether the head learns; false where a loss reads the embeddings below it."""
    epochs: float = 3.0
    steps: int | None = None
    """Optimizer steps, instead of epochs."""
    loss: str | None = None
    """The name of a loss; None: training.loss."""
    temperature: float = 0.1
    """Of the contrastive loss: lower, and it looks at the nearest texts alone."""
    encoder_learning_rate: float = 5e-5
    head_learning_rate: float | None = None
    """None: the encoder's."""
    solver: Solver = Solver.gradient
    layer_decay: float = 1.0
    """Each layer learns this many times as fast as the one above it."""
    lora_rank: int = 0
    """Train the layers through adapters of this rank; 0: the layers themselves."""
    min_steps: int | None = None
    """Optimizer steps of this stage at least; None: strategy.min_steps. Epochs that are typed for
    a stage set it to 0: they are made as they are."""


@dataclass
class StrategyConfig:
    """A list of stages, and short forms that apply to all of them where they make sense."""

    name: str = MISSING
    stages: dict[str, StageConfig] = field(default_factory=dict)
    epochs: float | None = None
    """Of every stage."""
    learning_rate: float | None = None
    """The encoder's; the head's where nothing else learns."""
    top_layers: int | None = None
    """Of every stage that trains some but not all layers."""
    min_steps: int = 100
    """Of a stage, unless strategy.epochs is given: few rows need more epochs."""
    solve_head: bool = False
    """Start from a head that is solved on frozen features."""
    label_names: bool | None = None
    """Use label names as training texts; None: auto does where they are words and rows are few."""
    allow_destructive_rate: bool = False
    """Fine-tune above 1e-3 all the same."""

    @property
    def is_auto(self) -> bool:
        """Whether the stages are still to be chosen."""
        return self.name == AUTO and not self.stages


@dataclass
class TrainingConfig:
    """How a stage is trained."""

    batch_size: int = 16
    """Documents of one optimizer step, over all processes."""
    micro_batch_size: int | str | None = None
    """Documents of one forward pass of one process; `auto` finds what fits, None takes all."""
    precision: Precision = Precision.auto
    schedule: Schedule = Schedule.linear
    warmup: float = 0.1
    """Share of a stage's steps."""
    weight_decay: float = 0.01
    """Not on biases and norms."""
    max_grad_norm: float = 1.0
    loss: str | None = None
    """The name of a loss; None: that of the problem."""
    label_smoothing: float = 0.0
    class_weights: Any = ClassWeights.none.value
    """Weights of the labels in the loss: none, balanced, sqrt, or {spam: 3, ham: 1}."""
    early_stopping: int | None = None
    """Epochs without a better metric before a stage ends."""
    checkpoint_minutes: float = 10.0
    """Between two checkpoints at most, and one whenever validation is looked at."""
    keep_best: bool = True
    """Hand back the best epoch of a stage, not its last."""
    threads: int | None = None
    """Of the CPU, per process; None: torch's own choice."""
    cpu: bool = False
    """Leave an accelerator unused."""
    compile: bool = False
    """The model, by torch.compile: minutes first, then faster steps on GPUs."""
    gradient_checkpointing: bool = False
    """Less memory for a third more time."""
    report_to: list[str] = field(default_factory=list)
    """Trackers: tensorboard, wandb, mlflow, trackio."""
    progress: bool = True


@dataclass
class FeaturesConfig:
    """How the output of a stage's frozen layers is kept between epochs."""

    cache: Cache = Cache.auto
    dtype: StoredAs = StoredAs.float32
    max_gb: float | None = None
    """None: what is free on the disk."""
    folder: str = f"{RUNS}/.features"
    keep_gb: float = 5.0
    """For later runs, a sweep say; those not used for longest go first."""


@dataclass
class EvaluationConfig:
    """What is measured, and by what the best epoch is chosen."""

    metrics: list[str] | None = None
    """None: what suits the problem."""
    best: str | None = None
    """None: the first of the metrics."""
    test: bool = True
    """False while runs are compared: a test split that chooses is none."""
    positive_label: str | None = None
    """Of binary F1, precision and recall; None: the last of two."""
    folds: str = AUTO
    """Cross-validated folds of train: a number, 0 for none, or auto: where rows are few."""
    max_tokens: int | None = None
    """Of one forward pass, padding included; None: by the device."""
    calibrate: bool = True
    """Fold a temperature, fitted on validation, into the last layer."""
    thresholds: Thresholds = Thresholds.auto
    """Of several labels, or of one of two."""
    wanted_precision: float = 0.9
    """With thresholds=precision."""
    slices: list[str] = field(default_factory=list)
    """Columns; also measured for each value."""
    trust_remote_code: bool = False
    """Run the code of metrics that only the Hub has."""


@dataclass
class ExportConfig:
    """How the exported folder is proved."""

    verify_rows: int = 256
    """Validation texts that a fresh process answers; 0: all of them."""


@dataclass
class HubConfig:
    """Where the finished model is uploaded; the token is HF_TOKEN's or that of `hf auth login`."""

    repository: str | None = None
    """User/name; None: nowhere."""
    private: bool = False
    """Refuse to upload where everybody can read."""
    revision: str | None = None
    """A branch, made where it is missing; None: main."""
    tag: str | None = None
    """A name for the uploaded commit."""
    pull_request: bool = False
    """Propose it to an existing repository."""
    examples: bool = False
    """Let a few validation texts stand on the card, and be uploaded with it."""


@dataclass
class Config:
    """One run."""

    task: str = MISSING
    author: str | None = None
    """Who answers for the model, named on the report and the model card."""
    seed: int = 42
    run_dir: str | None = None
    """None: runs/<task>-<checkpoint>-<hash of what is asked>."""
    overwrite: bool = False
    """Start a finished or unfinished run again."""
    dry_run: bool = False
    """Say the plan, train nothing."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    tokenization: TokenizationConfig = field(default_factory=TokenizationConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    hub: HubConfig = field(default_factory=HubConfig)


# Two runs that differ only here give the same model, so they are the same run.
NOT_PART_OF_THE_RESULT = (
    "author",
    "run_dir",
    "overwrite",
    "dry_run",
    "dataset.id",
    # What these change is a different corpus.
    "dataset.on_leak",
    "dataset.on_empty",
    "dataset.on_unlabeled",
    "dataset.clean_labels",
    "dataset.encoding",
    "dataset.separator",
    "dataset.seed",
    "tokenization.folder",
    "features.folder",
    "features.keep_gb",
    "features.max_gb",
    "training.threads",
    "training.progress",
    "training.checkpoint_minutes",
    "training.report_to",
    "evaluation.trust_remote_code",
    "export.verify_rows",
    "hub.repository",
    "hub.private",
    "hub.revision",
    "hub.tag",
    "hub.pull_request",
    "hub.examples",
)


def as_dict(config: Config) -> dict[str, Any]:
    """The resolved configuration in plain types, as `config.yaml` and the run's hash see it."""
    from omegaconf import OmegaConf

    return plain(OmegaConf.structured(config))


def plain(node: Any) -> dict[str, Any]:
    """An OmegaConf mapping in plain types, interpolations resolved."""
    from omegaconf import OmegaConf

    tree = OmegaConf.to_container(node, resolve=True, enum_to_str=True)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}
