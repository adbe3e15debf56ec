"""The text of a report without its figures and files, for tests that read it."""

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.report.page import markdown
from hpo.report.report_page import report_page


def text_of(study: Record | StudyNumbers) -> str:
    """README.md without its figures."""
    numbers = compute_numbers(study) if isinstance(study, Record) else study
    return markdown(report_page(numbers, [], ["hpo run synthetic"], None))


def part(text: str, first: str, last: str) -> str:
    """The text from `first` on, up to `last`."""
    return text[text.index(first) : text.index(last)]


def section(text: str, name: str) -> str:
    """The lines below the heading of level two `name`."""
    return text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
