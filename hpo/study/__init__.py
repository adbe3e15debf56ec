"""What a person writes: a study, its pruner, its file; and its definition as JSON."""
