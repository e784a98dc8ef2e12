"""The options that take one of a few words; each word says what it means."""

from __future__ import annotations

from enum import Enum


class Precision(Enum):
    """Arithmetic of the training step; the weights stay in float32."""

    auto = "auto"
    """bf16 or fp16 on a GPU, bf16 on a CPU with AMX, otherwise fp32."""
    fp32 = "fp32"
    """float32 throughout."""
    bf16 = "bf16"
    """bfloat16 for matrix products."""
    fp16 = "fp16"
    """float16 for matrix products, with loss scaling; needs a GPU."""


class Parallel(Enum):
    """How several processes train one model."""

    ddp = "ddp"
    """Each holds the whole model."""
    fsdp = "fsdp"
    """Each holds a slice of every weight, gradient and moment (FSDP2)."""


class Schedule(Enum):
    """How the learning rate falls after the warm-up."""

    linear = "linear"
    """Straight down to zero."""
    cosine = "cosine"
    """Down to zero along half a cosine."""
    constant = "constant"
    """Not at all."""


class Cache(Enum):
    """Whether the output of a stage's frozen layers is stored."""

    auto = "auto"
    """Store it if the stage has more than one epoch."""
    on = "on"
    """Always store it."""
    off = "off"
    """Never store it."""


class Pooling(Enum):
    """What the head sees of a text's tokens."""

    auto = "auto"
    """Compare on train, also lower layers, if a head is solved; otherwise the checkpoint's own."""
    first = "first"
    """The first token, as the checkpoint does."""
    mean = "mean"
    """The mean of all tokens."""


class Solver(Enum):
    """How a stage finds its weights."""

    gradient = "gradient"
    """By gradient steps."""
    exact = "exact"
    """The head alone: a regularised logistic regression (or a ridge regression), solved."""


class Adapt(Enum):
    """What an encoder learns from texts before it learns from labels."""

    none = "none"
    """Nothing."""
    mlm = "mlm"
    """To predict masked tokens: for checkpoints with a masked-language-model head."""
    contrastive = "contrastive"
    """To tell texts apart, whatever dropout leaves of them (SimCSE): for sentence encoders."""


class LongText(Enum):
    """What is done with a text that is longer than an input."""

    truncate = "truncate"
    """Cut its end off."""
    head_tail = "head_tail"
    """Leave its middle out."""
    windows = "windows"
    """Split it into several overlapping inputs and join their answers."""


class WindowPooling(Enum):
    """How the logits of a document's windows become its own."""

    mean = "mean"
    """Their mean."""
    max = "max"
    """The largest of each label."""


class Cut(Enum):
    """How splits are cut from train."""

    stratified = "stratified"
    """Draw by the seed; every label keeps its share."""
    hash = "hash"
    """By the text or the group alone: no row changes sides when the data grow."""


class ClassWeights(Enum):
    """How much a row counts in the loss, by its label."""

    none = "none"
    """Every row counts the same."""
    balanced = "balanced"
    """Every label counts the same, however many rows it has."""
    sqrt = "sqrt"
    """Half-way between the two."""


class OnLeak(Enum):
    """What is done with rows of train whose text is in validation or test, too."""

    warn = "warn"
    """Report them."""
    drop = "drop"
    """Remove them from train."""
    error = "error"
    """Refuse the data."""


class OnUnusable(Enum):
    """What is done with rows that have no text, or no label."""

    error = "error"
    """Refuse the data."""
    drop = "drop"
    """Leave them out; the data report counts and lists them."""


class Quoting(Enum):
    """How cells of CSV and TSV files that hold separators or quotes are written."""

    double = "double"
    """In quotes; a quote inside is doubled."""
    backslash = "backslash"
    """In quotes; a quote inside has a backslash before it."""
    none = "none"
    """Quotes are ordinary characters."""


class Thresholds(Enum):
    """For what it is chosen from which probability on a label is given."""

    auto = "auto"
    """F1 if a text may have several labels; otherwise none."""
    none = "none"
    """Use one half; with one label a text, the most probable label."""
    f1 = "f1"
    """The highest F1 of each label."""
    precision = "precision"
    """As many rows as `evaluation.wanted_precision` allows."""


class Refit(Enum):
    """Whether the final model learns from the rows that gave the figures, too."""

    auto = "auto"
    """With 1,000 to 10,000 rows, if validation and test were cut from train."""
    always = "always"
    """With any number of rows, if they were cut from train."""
    never = "never"
    """No: the model that gave the figures is exported."""


class StoredAs(Enum):
    """The precision of stored features."""

    float32 = "float32"
    """Exact."""
    float16 = "float16"
    """Half the size, rounded to about three digits."""
