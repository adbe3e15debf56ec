"""Scripts that train a chosen setting in plain PyTorch, without hpo."""
