"""Everything a run can be told, as dataclasses.

Defaults live here and nowhere else; the YAML files of `conf/` say only what differs. `choices` has
the words that an option may take.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nlp_transfer.config.choices import (
    Adapt,
    Cache,
    ClassWeights,
    Cut,
    LongText,
    OnLeak,
    OnUnusable,
    Parallel,
    Pooling,
    Precision,
    Quoting,
    Refit,
    Schedule,
    Solver,
    StoredAs,
    Thresholds,
    WindowPooling,
)

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
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")


@dataclass
class CheckpointConfig:
    """Which pretrained encoder, and how far it is trusted."""

    name: str = MISSING
    """A name on the Hub, a local folder, or embedded:all-MiniLM-L6-v2."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; null: the default branch."""
    pretrained: bool = True
    """false: the same architecture from random weights, to show what pretraining gives."""
    dropout: float | None = None
    """Probability of every dropout layer; null: the checkpoint's own."""
    pooling: Pooling = Pooling.auto
    """What the head reads: the first token or the mean of all tokens."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint."""
    allow_pickle: bool = False
    """Load weights that are not safetensors; a pickle can run code when it is read."""


@dataclass
class DatasetConfig:
    """Where the labelled texts are, and what their columns are called."""

    name: str | None = None
    """A dataset of the Hub, a folder of `save_to_disk`, or embedded:reviews; null: files."""
    subset: str | None = None
    """The configuration of a dataset on the Hub, such as sst2 of glue."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; null: the default branch."""
    train: Any = "train"
    """A file, a glob, or a list of these; with dataset.name, a split of that dataset."""
    validation: Any = None
    """As dataset.train; null: cut from train, or cross-validation if rows are few."""
    test: Any = None
    """As dataset.train; null: cut from train if train is all there is."""
    unlabeled: Any = None
    """More texts, without labels: a file, a glob, or a list of these; with dataset.name also a
    split of that dataset. strategy.adapt and strategy.self_training learn from them."""
    text: str = "text"
    """The column of the text."""
    text_pair: str | None = None
    """The column of the second text, if each row is a pair."""
    label: Any = "label"
    """The column of the label; or a list of 0/1 columns, one for each label."""
    problem: str = AUTO
    """The kind of label: single_label, multi_label, regression, ordinal or soft; auto: by what the
    label column holds."""
    order: list[str] | None = None
    """With problem=ordinal, the labels from the lowest to the highest; null: by their integers."""
    delimiter: str | None = None
    """The sign between the labels of one cell, if a text may have several."""
    label_names: dict[str, str] | None = None
    """Names for numbers, as in {0: ham, 1: spam}."""
    label_descriptions: dict[str, str] | None = None
    """A sentence for each label, used as one more training text, as in {billing: refunds}."""
    limit: int | None = None
    """Use only this many rows of train, stratified and drawn by dataset.seed."""
    on_leak: OnLeak = OnLeak.warn
    """What to do with rows of train whose text is also in validation or test."""
    on_empty: OnUnusable = OnUnusable.error
    """What to do with rows whose text (or second text, or group) is empty."""
    on_unlabeled: OnUnusable = OnUnusable.error
    """What to do with rows without a label."""
    clean_labels: bool = False
    """Merge labels that differ only in case, spaces or Unicode form into the most frequent one."""
    encoding: str | None = None
    """The encoding of text files, as cp1252; null: UTF-8, or UTF-16 if the file starts with its
    mark."""
    separator: str | None = None
    """The sign between the cells of CSV and TSV files; null: by the suffix, or as the header shows.
    """
    quoting: Quoting = Quoting.double
    """How a quote inside a quoted cell of CSV and TSV files is written."""
    seed: int = 42
    """Draws the splits, the folds and the rows of dataset.limit; everything else is drawn by seed.
    """
    validation_fraction: float = 0.1
    """The share of train that becomes the validation split, if there is none."""
    test_fraction: float = 0.1
    """The share of train that becomes the test split, if train is all there is; 0: no test split.
    """
    cut: Cut = Cut.stratified
    """How splits are cut from train."""
    id: str | None = None
    """A column that names each row in the report; training ignores it."""
    group: str | None = None
    """A column: rows with the same value stay in one split."""
    folds: int | None = None
    """Divide train into this many folds and use one of them as the test split."""
    fold: int = 0
    """The number of that fold, from 0."""

    def __post_init__(self) -> None:
        """A column may be called 0: YAML and the command line read a number."""
        if isinstance(self.label, list):
            self.label = [_column_name(name) for name in self.label]
        else:
            self.label = _column_name(self.label)

    def places(self, split: str) -> list[str]:
        """The files or globs of a split, or its name in the dataset; none where it is null."""
        where = getattr(self, split)
        return [] if where is None else [str(w) for w in where] if _is_list(where) else [str(where)]

    @property
    def urls(self) -> list[str]:
        """The files that lie on a server."""
        places = [w for split in ("train", "validation", "test") for w in self.places(split)]
        return [place for place in places if "://" in place]

    @property
    def label_columns(self) -> list[str]:
        """One column, or one for each label."""
        return self.label if isinstance(self.label, list) else [self.label]


@dataclass
class TokenizationConfig:
    """How texts are cut into tokens."""

    max_length: int | None = None
    """The longest input, in tokens; null: as long as the checkpoint can read."""
    long_text: LongText = LongText.truncate
    """What to do with a text that is longer than an input."""
    stride: int = 0
    """How many tokens neighbouring windows share."""
    window_pooling: WindowPooling = WindowPooling.mean
    """How the logits of a document's windows become one answer."""
    folder: str = f"{RUNS}/.tokens"
    """Where tokens are kept for other processes and later runs."""


@dataclass
class StageConfig:
    """One stretch of training: how many top layers learn, how fast, for how long."""

    layers: str = MISSING
    """all (with the embeddings), encoder (all layers, without the embeddings), or a number of top
    layers; 0: the head alone."""
    head: bool = True
    """Whether the head learns; false if the loss reads the embeddings below it."""
    epochs: float = 3.0
    """Passes over train."""
    steps: int | None = None
    """Optimizer steps, instead of epochs."""
    loss: str | None = None
    """The name of a loss; null: training.loss."""
    temperature: float = 0.1
    """Divides the similarities of the contrastive loss (lower values look at the nearest texts
    only), and the logits of the loss distillation (higher values look at every label)."""
    teacher: str | None = None
    """A finished run or an exported folder whose logits the loss distillation learns."""
    unlabeled: str | None = None
    """A file or a glob of more texts that the teacher answers, with the columns of the dataset."""
    encoder_learning_rate: float = 5e-5
    """The peak learning rate of the encoder's layers."""
    head_learning_rate: float | None = None
    """The peak learning rate of the head; null: the encoder's."""
    solver: Solver = Solver.gradient
    """How the stage finds its weights."""
    layer_decay: float = 1.0
    """Each layer learns this many times as fast as the one above it."""
    lora_rank: int = 0
    """Train the layers through adapters of this rank; 0: the layers themselves."""
    min_steps: int | None = None
    """The fewest optimizer steps of this stage; null: strategy.min_steps. Epochs that are typed for
    a stage set it to 0."""


@dataclass
class StrategyConfig:
    """A list of stages, and short forms that apply to all of them where they make sense."""

    name: str = MISSING
    """The name of the strategy; auto: chosen by the data."""
    stages: dict[str, StageConfig] = field(default_factory=dict)
    epochs: float | None = None
    """Epochs of every stage."""
    learning_rate: float | None = None
    """The learning rate of the encoder in every stage; of the head if nothing else learns."""
    top_layers: int | None = None
    """The number of top layers, in every stage that trains some but not all layers."""
    min_steps: int = 100
    """The fewest optimizer steps of a stage, unless epochs are given: few rows need more epochs."""
    solve_head: bool = False
    """Start from a head that is solved on frozen features."""
    self_training: bool | None = None
    """Learn from the surest of the model's own answers to dataset.unlabeled, too; null: auto does
    if cross-validation of 100 rows or more says that it helps."""
    adapt: Adapt = Adapt.none
    """What the encoder learns first, from the texts of train and dataset.unlabeled alone."""
    adapt_epochs: float = 1.0
    """Passes over these texts."""
    adapt_learning_rate: float = 5e-5
    """The peak learning rate of the encoder in them."""
    label_names: bool | None = None
    """Use label names as training texts; null: auto does if they are words and rows are few."""
    max_minutes: float | None = None
    """The most minutes of the run: auto starts nothing that they do not pay for, and training ends
    in time for the best model so far to be exported; null: as long as it takes."""
    allow_destructive_rate: bool = False
    """Allow learning rates of the encoder above 1e-3."""

    @property
    def is_auto(self) -> bool:
        """Whether the stages are still to be chosen."""
        return self.name == AUTO and not self.stages


@dataclass
class AugmentConfig:
    """Changes to the texts of train, drawn anew each time that a text is read; 0: none."""

    word_dropout: float = 0.0
    """The share of words that are left out."""
    word_swap: float = 0.0
    """The share of words that change places with the next one."""
    typos: float = 0.0
    """The share of words with a typing mistake: a letter that is missing, doubled, exchanged with
    the next one, or its neighbour on a QWERTY keyboard."""
    mix: float = 0.0
    """The share of texts whose end is replaced by the end of another text with the same label."""


@dataclass
class TrainingConfig:
    """How a stage is trained."""

    batch_size: int = 16
    """Rows of one optimizer step, over all processes."""
    micro_batch_size: int | str | None = None
    """Rows of one forward pass of one process; auto: as many as fit into memory; null: all."""
    parallel: Parallel = Parallel.ddp
    """How several processes train one model; fsdp is for one that does not fit into each."""
    precision: Precision = Precision.auto
    """The arithmetic of the training step."""
    schedule: Schedule = Schedule.linear
    """How the learning rate falls after the warm-up."""
    warmup: float = 0.1
    """The share of a stage's steps in which the learning rate rises."""
    weight_decay: float = 0.01
    """The weight decay of AdamW; biases and normalisation layers have none."""
    max_grad_norm: float = 1.0
    """Clip gradients to this norm."""
    loss: str | None = None
    """The name of a loss; null: that of the kind of label."""
    label_smoothing: float = 0.0
    """The share of each target that is spread over all labels."""
    class_weights: Any = ClassWeights.none.value
    """Weights of the labels in the loss: none, balanced, sqrt, or a mapping such as {spam: 3, ham:
    1}."""
    early_stopping: int | None = None
    """End a stage after this many epochs without a better metric; null: never."""
    checkpoint_minutes: float = 10.0
    """The most minutes between two checkpoints; there is one whenever validation is evaluated."""
    keep_best: bool = True
    """Keep the best epoch of a stage instead of the last."""
    threads: int | None = None
    """CPU threads of each process; null: torch's own choice."""
    cpu: bool = False
    """Do not use an accelerator."""
    compile: bool = False
    """Compile the model by torch.compile: minutes at first, then faster steps on GPUs."""
    gradient_checkpointing: bool = False
    """Recompute activations: less memory for about a third more time."""
    report_to: list[str] = field(default_factory=list)
    """Experiment trackers: tensorboard, wandb, mlflow, trackio."""
    progress: bool = True
    """Show a progress bar."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class FeaturesConfig:
    """How the output of a stage's frozen layers is kept between epochs."""

    cache: Cache = Cache.auto
    """Whether the output of frozen layers is stored on disk."""
    dtype: StoredAs = StoredAs.float32
    """The precision of stored features."""
    max_gb: float | None = None
    """The most disk space for one store, in GB; null: what is free."""
    folder: str = f"{RUNS}/.features"
    """Where features are stored."""
    keep_gb: float = 5.0
    """GB of features kept for later runs; those unused for longest are removed first."""


@dataclass
class EvaluationConfig:
    """What is measured, and by what the best epoch is chosen."""

    metrics: list[str] | None = None
    """Names of metrics; null: those of the kind of label."""
    best: str | None = None
    """The metric that chooses the epoch; null: the first of the metrics."""
    test: bool = True
    """Evaluate the test split; false while you compare runs."""
    positive_label: str | None = None
    """The positive label of binary F1, precision and recall; null: the last of two."""
    folds: str = AUTO
    """Folds of cross-validation over train: a number, 0 for none, or auto: four if rows are few."""
    refit: Refit = Refit.auto
    """Train the final model on all rows, once a model without the rows that were cut for validation
    and test has given the figures; auto: with 1,000 to 10,000 rows that are fewer than 200 a
    label, unless you compare runs (evaluation.test=false or dataset.folds)."""
    max_tokens: int | None = None
    """Tokens of one forward pass, padding included; null: by the device."""
    calibrate: bool = True
    """Fold a temperature, fitted on validation or out-of-fold rows, into the last layer."""
    thresholds: Thresholds = Thresholds.auto
    """What the probability is chosen for from which a label is given."""
    wanted_precision: float = 0.9
    """The precision that thresholds=precision keeps."""
    slices: list[str] = field(default_factory=list)
    """Columns of the data; every metric is also computed for each of their values."""
    trust_remote_code: bool = False
    """Run the code of metrics that only the Hub has."""


@dataclass
class ExportConfig:
    """How the exported folder is proved."""

    verify_rows: int = 256
    """How many validation texts a fresh process answers with the exported model; 0: all of them."""
    fresh_process: bool = True
    """False: the process of the run answers these texts, some seconds sooner. That proves less."""


@dataclass
class HubConfig:
    """Where the finished model is uploaded; the token is HF_TOKEN's or that of `hf auth login`."""

    repository: str | None = None
    """USER/NAME to upload the finished model to; null: no upload."""
    private: bool = False
    """Create a private repository, and refuse to upload to a public one."""
    revision: str | None = None
    """A branch, created if it is missing; null: main."""
    tag: str | None = None
    """A tag for the uploaded commit."""
    pull_request: bool = False
    """Propose the model to an existing repository as a pull request."""
    examples: bool = False
    """Show a few validation texts on the model card, and upload them with it."""


@dataclass
class Config:
    """Everything a run is told, in sections; `compose` makes one and checks it.

    >>> from nlp_transfer import compose
    >>> config = compose("+task=sentiment", "strategy=full", "training.batch_size=32")
    >>> config
    Config(sentiment, embedded:all-MiniLM-L6-v2 on embedded:reviews, strategy full, seed 42)
    >>> config.training.batch_size
    32
    """

    task: str = MISSING
    """The name of the task, part of the run's name; +task=NAME also loads its group."""
    author: str | None = None
    """Who answers for the model; printed on the report and the model card."""
    seed: int = 42
    """Draws initial weights, dropout and the order of batches."""
    run_dir: str | None = None
    """The run folder; null: runs/<task>-<checkpoint>-<hash of configuration and data>."""
    overwrite: bool = False
    """Start a finished or unfinished run again."""
    dry_run: bool = False
    """Print the plan and train nothing."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    tokenization: TokenizationConfig = field(default_factory=TokenizationConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    hub: HubConfig = field(default_factory=HubConfig)

    def __repr__(self) -> str:
        data = self.dataset.name or self.dataset.train
        about = f"{self.checkpoint.name} on {data}, strategy {self.strategy.name}"
        return f"Config({self.task}, {about}, seed {self.seed})"


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
    "training.parallel",
    "training.threads",
    "training.progress",
    "training.checkpoint_minutes",
    "training.report_to",
    "evaluation.trust_remote_code",
    "export.verify_rows",
    "export.fresh_process",
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


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _column_name(name: Any) -> Any:
    return str(name) if isinstance(name, int | float) and not isinstance(name, bool) else name
