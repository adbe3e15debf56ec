"""Training whole populations of models at once: steps, the loop over epochs, evaluation, checkpoints."""
