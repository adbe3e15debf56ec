"""The ledger as Optuna's studies and trials show it."""
