"""Warnings about hyperparameters at an end of their range: the best value may lie beyond it, or the method is off."""

from collections.abc import Iterator

from hpo.analysis.range_position import SIDES, RangePosition
from hpo.analysis.results import ConfigurationNumbers
from hpo.report.wording import escape, plain_name
from hpo.search_space import Side


def range_ends(entry: ConfigurationNumbers) -> Iterator[str]:
    """A sentence for each end of a range at which a configuration's best trials or chosen settings are."""
    for name, position in entry.tuning.range_positions.items():
        for side in SIDES:
            if side == position.end or side in position.chosen_ends:
                yield _range_end(escape(entry.name), escape(plain_name(name)), position, side)


def _range_end(configuration: str, name: str, position: RangePosition, side: Side) -> str:
    """That the best trials, or the chosen settings, or both are at this end of a hyperparameter's range."""
    off = side == position.off
    chosen = f"{position.chosen_at[side]} of the {position.chosen} chosen settings"
    if side != position.end:
        if off:
            return (
                f"{configuration} tuned itself off in some tuning runs: {chosen} have {name} in the outer tenth of its "
                "range at the end where it has no effect"
            )
        return (
            f"{configuration}: {chosen} have {name} in the outer tenth at the {side} end of its range; a wider range "
            "may change the result"
        )
    trials = f"{position.at_end} of the best {position.trials} trials"
    both = f"{trials} and {chosen}" if side in position.chosen_ends else trials
    at = f"median position {position.position:.2f}, {both} there"
    if off:
        return f"{configuration} tuned itself off: {name} is at the end of its range where it has no effect ({at})"
    return f"{configuration}: {name} is at the {side} end of its range ({at}); a wider range may change the result"
