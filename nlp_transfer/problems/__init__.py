"""The kinds of labels.

Importing the package registers ours; `dataset.problem` names one of them.
"""

# In this order: the first kind of a Hugging Face problem_type is what a bare one stands for.
from nlp_transfer.problems import single_label

# isort: split
from nlp_transfer.problems import multi_label, ordinal, regression, soft
from nlp_transfer.problems.base import Problem
from nlp_transfer.problems.registry import problem_named, problems, register_problem

__all__ = [
    "Problem",
    "multi_label",
    "ordinal",
    "problem_named",
    "problems",
    "register_problem",
    "regression",
    "single_label",
    "soft",
]
