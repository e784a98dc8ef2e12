"""Everything a run can be told: the dataclass of the sections, and its plain form.

Defaults live in these dataclasses and nowhere else; the YAML files of `conf/` say only what
differs. `sections` has one module a section, `choices` the words that an option may take.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nlp_transfer.config.constants import MISSING
from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.config.sections.delivery import ExportConfig, HubConfig
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.config.sections.features import FeaturesConfig
from nlp_transfer.config.sections.strategy import StrategyConfig
from nlp_transfer.config.sections.tokenization import TokenizationConfig
from nlp_transfer.config.sections.training import TrainingConfig
from nlp_transfer.errors import ExitCode, UserError


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


# What these change is another corpus, by which runs are told apart.
OF_THE_CORPUS = (
    "dataset.on_leak",
    "dataset.on_empty",
    "dataset.on_unlabeled",
    "dataset.clean_labels",
    "dataset.encoding",
    "dataset.separator",
    "dataset.seed",
)
# Two runs of one corpus that differ only here give the same model, so they are the same run.
NOT_PART_OF_THE_RESULT = (
    *OF_THE_CORPUS,
    "author",
    "run_dir",
    "overwrite",
    "dry_run",
    "dataset.id",
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


def require_config(config: object) -> None:
    """Stop at overrides, or anything else, where a configuration is expected."""
    if not isinstance(config, Config):
        raise UserError(
            ExitCode.CONFIG,
            f"run: expected what compose(…) returns, found {type(config).__name__}. Type "
            'run(compose("+task=classify", …), data=…).',
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
