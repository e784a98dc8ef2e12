"""Turns texts into model inputs without padding, whole or in windows."""
