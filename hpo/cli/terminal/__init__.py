"""Output for a terminal: progress, status, catalogue and messages."""
