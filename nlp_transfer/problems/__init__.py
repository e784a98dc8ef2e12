"""The kinds of labels.

Importing the package registers ours; `dataset.problem` names one of them.
"""

from nlp_transfer.problems import multi_label, regression, single_label
from nlp_transfer.problems.base import Problem
from nlp_transfer.problems.registry import problem_named, problems, register

__all__ = [
    "Problem",
    "multi_label",
    "problem_named",
    "problems",
    "register",
    "regression",
    "single_label",
]
