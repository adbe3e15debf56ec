"""Benchmarks of training steps, images, per-sample norms, searches, pruning, verdicts and start-up.

Every module has `measure(…, on_row)`, which returns JSON values and calls `on_row` with each finished row, `COLUMNS`,
the table in which a terminal shows the rows (see `table.Table`), and `summary`, the lines below it.
"""
