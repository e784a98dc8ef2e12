"""The Python API: everything in `nlp_transfer.__all__`, then what extensions are built from."""

from __future__ import annotations

import inspect

import nlp_transfer

# What a person who adds a metric, a loss, a kind of label … imports.
EXTENSIONS = (
    "nlp_transfer.evaluation.registry.Metric",
    "nlp_transfer.evaluation.registry.register_metric",
    "nlp_transfer.training.losses.register_loss",
    "nlp_transfer.training.losses.LossOptions",
    "nlp_transfer.problems.Problem",
    "nlp_transfer.problems.register_problem",
    "nlp_transfer.data.formats.registry.register_reader",
    "nlp_transfer.export.exporters.Exporter",
    "nlp_transfer.export.exporters.register_exporter",
    "nlp_transfer.inference.engines.Engine",
    "nlp_transfer.inference.engines.register_engine",
    "nlp_transfer.inference.engines.EngineSpec",
    "nlp_transfer.errors.UserError",
)


# Methods that scikit-learn adds, with references into its own documentation.
# Whose members are documented elsewhere.
FOREIGN = "BaseEstimator,ClassifierMixin,RegressorMixin,_MetadataRequester,Exception,object"
INJECTED = "set_fit_request, set_predict_request, set_score_request"


def markdown() -> str:
    """Sphinx directives; the text comes from the docstrings."""
    public = [f"nlp_transfer.{name}" for name in nlp_transfer.__all__]
    public = [name for name in public if not name.rpartition(".")[2].startswith("_")]
    known = list(map(_find, public))
    more = [name for name in EXTENSIONS if _find(name) not in known]
    return "\n".join(
        (
            "## Public names\n",
            *map(_directive, public),
            "## For extensions\n\n[How to add something](../architecture/seams.md) uses these.\n",
            *map(_directive, more),
        )
    )


def _directive(name: str) -> str:
    thing = _find(name)
    kind = "class" if inspect.isclass(thing) else "function" if callable(thing) else "data"
    kind = "exception" if kind == "class" and issubclass(thing, Exception) else kind
    members = ""
    if kind == "class":
        members = (
            f"   :members:\n   :inherited-members: {FOREIGN}\n   :exclude-members: {INJECTED}\n"
        )
    return f"```{{eval-rst}}\n.. auto{kind}:: {name}\n{members}```\n"


def _find(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(__import__(module, fromlist=[attribute]), attribute)
