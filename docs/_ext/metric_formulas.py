r"""Formula and source of every metric of this package.

$n$ rows $i$ with reference $y_i$ and answer $\hat y_i$; $p_{ik}$ is the probability of label $k$ of
$K$; $TP_k$, $FP_k$, $FN_k$ are the hits, false alarms and misses of label $k$; $P_k$ and $R_k$ are
precision and recall; $L$ is the set of labels that the references or the answers hold.
"""

from __future__ import annotations

from typing import NamedTuple


class Formula(NamedTuple):
    """What is printed beside a metric."""

    formula: str  # LaTeX
    source: str


PRECISION = r"P_k = \frac{TP_k}{TP_k + FP_k}"
RECALL = r"R_k = \frac{TP_k}{TP_k + FN_k}"
F1 = r"F_k = \frac{2\,TP_k}{2\,TP_k + FP_k + FN_k}"
RIJSBERGEN = "van Rijsbergen 1979, ch. 7"
MACRO = r"\frac{1}{\lvert L \rvert} \sum_{k \in L} "
LOG_LOSS = Formula(r"-\frac{1}{n} \sum_i \log p_{i y_i}", "Good 1952")
ENTROPY = "Shannon 1948; in nats"
ACCURACY = Formula(r"\frac{1}{n} \sum_i [\hat y_i = y_i]", "")
F1_MACRO = Formula(MACRO + "F_k", f"{RIJSBERGEN}; Opitz and Burst 2019, eq. 3")
F1_WEIGHTED = Formula(r"\frac{1}{n} \sum_k n_k F_k", "scikit-learn, `average='weighted'`")

FORMULAS: dict[tuple[str, str], Formula] = {
    ("single_label", "accuracy"): ACCURACY,
    ("single_label", "f1"): Formula(F1 + r",\; k \text{ positive}", RIJSBERGEN),
    ("single_label", "f1_macro"): F1_MACRO,
    ("single_label", "f1_weighted"): F1_WEIGHTED,
    ("single_label", "precision"): Formula(PRECISION + r",\; k \text{ positive}", RIJSBERGEN),
    ("single_label", "precision_macro"): Formula(MACRO + "P_k", RIJSBERGEN),
    ("single_label", "recall"): Formula(RECALL + r",\; k \text{ positive}", RIJSBERGEN),
    ("single_label", "recall_macro"): Formula(MACRO + "R_k", RIJSBERGEN),
    ("single_label", "matthews"): Formula(
        r"\frac{c\,n - \sum_k \hat n_k n_k}"
        r"{\sqrt{(n^2 - \sum_k \hat n_k^2)(n^2 - \sum_k n_k^2)}},\; c = \sum_k TP_k",
        "Matthews 1975; Gorodkin 2004 for more than two labels",
    ),
    ("single_label", "log_loss"): LOG_LOSS,
    ("single_label", "brier"): Formula(
        r"\frac{1}{n} \sum_i \sum_k (p_{ik} - [y_i = k])^2", "Brier 1950; half of it for two labels"
    ),
    ("single_label", "ece"): Formula(
        r"\sum_{b=1}^{15} \frac{n_b}{n} \lvert \mathrm{acc}_b - \mathrm{conf}_b \rvert",
        "Guo et al. 2017, eq. 3",
    ),
    ("single_label", "roc_auc"): Formula(
        r"\Pr(p_{ik} > p_{jk} \mid y_i = k, y_j \ne k)",
        "Hanley and McNeil 1982; of more than two labels the mean, one against the rest",
    ),
    ("multi_label", "accuracy"): Formula(
        r"\frac{1}{n} \sum_i [\hat Y_i = Y_i]", "all labels of a row are right (subset accuracy)"
    ),
    ("multi_label", "f1_micro"): Formula(
        r"\frac{2 \sum_k TP_k}{\sum_k (2\,TP_k + FP_k + FN_k)}", RIJSBERGEN
    ),
    ("multi_label", "f1_macro"): F1_MACRO,
    ("multi_label", "f1_weighted"): Formula(
        r"\frac{\sum_k n_k F_k}{\sum_k n_k}", "scikit-learn, `average='weighted'`"
    ),
    ("multi_label", "precision_micro"): Formula(
        r"\frac{\sum_k TP_k}{\sum_k (TP_k + FP_k)}", RIJSBERGEN
    ),
    ("multi_label", "precision_macro"): Formula(MACRO + "P_k", RIJSBERGEN),
    ("multi_label", "recall_micro"): Formula(
        r"\frac{\sum_k TP_k}{\sum_k (TP_k + FN_k)}", RIJSBERGEN
    ),
    ("multi_label", "recall_macro"): Formula(MACRO + "R_k", RIJSBERGEN),
    ("multi_label", "log_loss"): Formula(
        r"-\frac{1}{nK} \sum_i \sum_k y_{ik} \log p_{ik} + (1 - y_{ik}) \log (1 - p_{ik})",
        "Good 1952; mean over the labels",
    ),
    ("multi_label", "ranking_precision"): Formula(
        r"\frac{1}{n} \sum_i \frac{1}{\lvert Y_i \rvert} \sum_{k \in Y_i} "
        r"\frac{\lvert \{ j \in Y_i : p_{ij} \ge p_{ik} \} \rvert}"
        r"{\lvert \{ j : p_{ij} \ge p_{ik} \} \rvert}",
        "Schapire and Singer 2000; label ranking average precision",
    ),
    ("multi_label", "average_precision"): Formula(
        MACRO + r"\sum_t (R_{kt} - R_{k,t-1})\, P_{kt}",
        "Zhu 2004; thresholds $t$ from the most probable row down",
    ),
    ("regression", "mse"): Formula(r"\frac{1}{n} \sum_i (y_i - \hat y_i)^2", ""),
    ("regression", "mae"): Formula(r"\frac{1}{n} \sum_i \lvert y_i - \hat y_i \rvert", ""),
    ("regression", "pearson"): Formula(
        r"\frac{\mathrm{cov}(y, \hat y)}{\sigma_y \sigma_{\hat y}}", "Pearson 1895"
    ),
    ("regression", "spearman"): Formula(
        r"\mathrm{pearson}(\mathrm{rank}(y), \mathrm{rank}(\hat y))", "Spearman 1904"
    ),
    ("ordinal", "quadratic_kappa"): Formula(
        r"1 - \frac{\sum_i (y_i - \hat y_i)^2 / n}{\sum_{ij} (y_i - \hat y_j)^2 / n^2}",
        "Cohen 1968; labels as steps 0, 1, 2 …",
    ),
    ("ordinal", "mae"): Formula(r"\frac{1}{n} \sum_i \lvert y_i - \hat y_i \rvert", "in steps"),
    ("ordinal", "accuracy"): ACCURACY,
    ("ordinal", "f1_macro"): F1_MACRO,
    ("ordinal", "log_loss"): LOG_LOSS,
    ("soft", "log_loss"): Formula(
        r"-\frac{1}{n} \sum_i \sum_k q_{ik} \log p_{ik}",
        "cross-entropy with the share $q_{ik}$ of the annotators",
    ),
    ("soft", "annotator_entropy"): Formula(
        r"-\frac{1}{n} \sum_i \sum_k q_{ik} \log q_{ik}", ENTROPY
    ),
    ("soft", "model_entropy"): Formula(r"-\frac{1}{n} \sum_i \sum_k p_{ik} \log p_{ik}", ENTROPY),
    ("soft", "accuracy"): Formula(ACCURACY.formula, "of the label that most annotators gave"),
    ("soft", "f1_macro"): Formula(F1_MACRO.formula, "of the label that most annotators gave"),
}
