"""`hpo dashboard`: studies, reports and optuna-dashboard in a browser; read-only and on localhost by default."""
