"""The text of a report without its figures and files, for tests that read it."""

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record
from hpo.report.page import markdown
from hpo.report.report_page import report_page


def text_of(record: Record) -> str:
    """README.md without its figures."""
    return markdown(report_page(compute_numbers(record), [], ["hpo run synthetic"], None))


def part(text: str, first: str, last: str) -> str:
    """The text from `first` on, up to `last`."""
    return text[text.index(first) : text.index(last)]


def section(text: str, name: str) -> str:
    """The lines below the heading of level two `name`."""
    return text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
