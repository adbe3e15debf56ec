"""Benchmarks: training steps, per-sample norms, the search for settings, and the storage."""
