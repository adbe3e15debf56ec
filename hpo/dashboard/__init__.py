"""`hpo dashboard`: optuna-dashboard and the written reports in a browser, for reading and from this machine alone."""
