"""What a study's record says, in numbers without words: selection, paired tests, verdicts, comparisons."""
