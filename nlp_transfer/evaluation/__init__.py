"""Metrics with intervals, calibration, thresholds, slices and significance tests."""
