r"""Formulas and sources that several metrics share.

$n$ rows $i$ with reference $y_i$ and answer $\hat y_i$; $p_{ik}$ is the probability of label $k$ of
$K$; $TP_k$, $FP_k$, $FN_k$ are the hits, false alarms and misses of label $k$; $P_k$ and $R_k$ are
precision and recall; $L$ is the set of labels that the references or the answers hold.
"""

from __future__ import annotations

ACCURACY = r"\frac{1}{n} \sum_i [\hat y_i = y_i]"
PRECISION = r"P_k = \frac{TP_k}{TP_k + FP_k}"
RECALL = r"R_k = \frac{TP_k}{TP_k + FN_k}"
F1 = r"F_k = \frac{2\,TP_k}{2\,TP_k + FP_k + FN_k}"
MACRO = r"\frac{1}{\lvert L \rvert} \sum_{k \in L} "
F1_MACRO = MACRO + "F_k"
LOG_LOSS = r"-\frac{1}{n} \sum_i \log p_{i y_i}"
RIJSBERGEN = "van Rijsbergen 1979, ch. 7"
OPITZ = f"{RIJSBERGEN}; Opitz and Burst 2019, eq. 3"
ENTROPY = "Shannon 1948; in nats"
