"""The ledger shown as Optuna studies and trials."""
