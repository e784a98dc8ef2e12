"""Explanations beside their evidence: nearest rows of train, curves against chance, the report."""
