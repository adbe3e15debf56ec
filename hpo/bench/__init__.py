"""Benchmarks: training steps, per-sample norms, and the search for settings."""
