"""The table of failures by cause, in the words of `hpo status`."""

from hpo.analysis.results import StudyNumbers
from hpo.failures import CAUSES, by_cause
from hpo.report.formatting import escape
from hpo.report.tables import Table


def failures(numbers: StudyNumbers) -> Table:
    """T6: runs that diverged, attempts that failed by cause, runs that failed for good; a row where there are any."""
    counted = []
    for entry in numbers.configurations:
        tuning, reruns = entry.tuning, entry.reruns
        phases = (
            ("trials", tuning.diverged, tuning.failed_attempts, tuning.failed),
            ("reruns", len(reruns.diverged_seeds), reruns.failed_attempts, len(reruns.failed_seeds)),
        )
        counted += [(entry.name, phase, by_cause(own, attempts), lost) for phase, own, attempts, lost in phases]
    known = dict.fromkeys([*CAUSES, *(cause for _, _, causes, _ in counted for cause in causes)])
    rows = [
        [escape(name), phase, *(str(causes.get(cause, 0)) for cause in known), str(lost)]
        for name, phase, causes, lost in counted
        if causes or lost
    ]
    header = ["configuration", "runs", *map(escape, known), "failed for good"]
    return Table(header, rows, range(2, len(header)))
