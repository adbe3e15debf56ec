"""What a person writes: a study, its pruner, its file; its definition as JSON and the fingerprint of its code."""
