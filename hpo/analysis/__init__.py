"""The analysis of a study in numbers: record, selection of runs, paired tests, verdicts, comparisons."""
