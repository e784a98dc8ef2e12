"""The terms of a report, each explained in a sentence."""

from __future__ import annotations

TERMS = {
    "accuracy": "The share of rows whose predicted label is the true label.",
    "precision": "Of the rows predicted as a label, the share that has it.",
    "recall": "Of the rows that have a label, the share predicted as it.",
    "F1": "The harmonic mean of precision and recall; 1 is perfect.",
    "f1_macro": "The mean F1 of all labels, each counting the same.",
    "f1_micro": "F1 over all decisions together, frequent labels counting more.",
    "f1_weighted": "The mean F1 of all labels, each counting by its number of rows.",
    "matthews": "Matthews correlation: 1 is perfect, 0 is chance, also for unequal labels.",
    "log_loss": "The mean negative logarithm of the probability of the true label; 0 is perfect.",
    "brier": "The mean squared distance of the probabilities from the true label; 0 is perfect.",
    "kappa": "Quadratic weighted kappa: agreement on ordered labels; 1 is perfect, 0 is chance.",
    "ece": "Expected calibration error: the mean distance between confidence and accuracy.",
    "calibration error": "The mean distance between confidence and accuracy; 0 is perfect.",
    "pearson": "Linear correlation of predicted and true scores; 1 is perfect.",
    "spearman": "Correlation of the ranks of predicted and true scores; 1 is perfect.",
    "mse": "Mean squared error, in squared units of the score; 0 is perfect.",
    "mae": "Mean absolute error, in units of the score; 0 is perfect.",
    "confidence": "The probability of the predicted label.",
    "coverage": "The share of rows that the model answers when it leaves the least confident out.",
    "95% interval": "A range that contains the value on new rows like these in 95 of 100 samples; "
    "by bootstrap over rows.",
    "validation": "Rows that were not trained on, used to choose epochs and settings.",
    "test": "Rows that were not trained on and chose nothing; used once, at the end.",
    "cross-validation": "Every row is predicted by a model that was trained on the other parts.",
    "temperature": "A number that divides the logits so that confidences fit accuracy.",
    "threshold": "The probability from which on a label is assigned.",
    "token": "A piece of a word, the unit that the model reads.",
    "stage": "One stretch of training with its own layers, epochs and learning rate.",
    "epoch": "One pass over all training rows.",
    "standard error": "How far a value would typically move on other rows of the same kind.",
}


def used_terms(text: str) -> dict[str, str]:
    """The terms that occur in a text."""
    lowered = text.lower()
    return {term: meaning for term, meaning in TERMS.items() if term.lower() in lowered}
