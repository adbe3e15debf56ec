"""Reports: a study's record as text, pictures and tables, computed only from the database."""

from hpo.analysis.record import Record, make_record, read_record
from hpo.report.comparison_page import write_comparison
from hpo.report.results import Results
from hpo.report.writer import write_report

__all__ = ["Record", "Results", "make_record", "read_record", "write_comparison", "write_report"]
