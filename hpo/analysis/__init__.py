"""What the numbers of a study say: record, selection of runs, paired tests, verdicts, comparisons."""
