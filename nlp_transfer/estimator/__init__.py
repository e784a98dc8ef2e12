"""scikit-learn's interface to a run."""
