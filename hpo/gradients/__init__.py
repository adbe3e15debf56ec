"""Gradients of one model: the network as a function, cached passes, per-sample gradients by layer rules."""
