"""Benchmarks: training steps, per-sample norms, the search for settings, the storage, verdicts, and the rest around."""
