"""Optimizers, learning-rate schedules and regularizers."""
