"""Benchmarks of training steps, per-sample norms, searches, pruning, verdicts and start-up.

Every module has `measure(…, on_row)`, which returns JSON values and hands over each row as it is known, `COLUMNS`, the
table in which a terminal shows the rows (see `table.Table`), and `summary`, the lines below it.
"""
