"""Tables of the analysis: values in two groups, noisy labels fitted, smoothness of the training loss, and cost."""

import math

from hpo.analysis.metric import ACCURACY, NOISY_LABELS, Metric
from hpo.analysis.paired_tests import Comparison
from hpo.analysis.results import ConfigurationNumbers, Rival, StepTime, StudyNumbers
from hpo.errors import plural
from hpo.report.formatting import NOTHING, number, percent, three_digits, with_interval
from hpo.report.tables import Table
from hpo.report.two_groups import find_groups, quantity_label, values_in_full, with_groups
from hpo.report.wording import escape

ROUGHNESS = Metric("roughness", "minimize", share=False)
FEW_EPOCHS = 5  # with no more, no epoch can be called a spike


def two_groups(numbers: StudyNumbers) -> Table:
    """The values of the quantities in the results that lie in two groups."""
    rows = []
    for entry, metric, groups in find_groups(numbers):
        for values in (groups.lower, groups.upper):
            shown = values_in_full(values, metric)
            rows.append([escape(entry.name), quantity_label(metric), plural(len(values), groups.unit), shown])
    return Table(["configuration", "quantity", "group", "values"], rows)


def memorisation(numbers: StudyNumbers) -> Table:
    """T7: how many of the changed training labels are fitted."""
    compared = {rival.name: rival.memorisation for rival in numbers.rivals}
    header = [
        "configuration", "noisy labels fitted", "beyond chance", "true label predicted",
        f"Δ against {escape(numbers.baseline.name)} in points [95% CI]",
    ]  # fmt: skip
    rows = []
    if any(compared.values()):
        for entry in numbers.configurations:
            reruns, comparison = entry.reruns, compared.get(entry.name)
            fitted = with_groups(percent(reruns.memorised.mean, 1), entry, NOISY_LABELS)
            shares = (reruns.adjusted_memorisation.mean, reruns.recovered.mean)
            difference = with_interval(comparison.mean, comparison.interval, ACCURACY) if comparison else NOTHING
            rows.append([escape(entry.name), fitted, *(percent(share, 1) for share in shares), difference])
    rows += _planned([(entry, entry.memorisation) for entry in numbers.planned], ACCURACY, before=3, after=0)
    return Table(header, rows, range(1, 5))


def smoothness(numbers: StudyNumbers) -> Table:
    """T8: how smoothly the training loss falls."""
    compared = {rival.name: rival.roughness for rival in numbers.rivals}
    header = [
        "configuration", "roughness", f"Δ against {escape(numbers.baseline.name)} [95% CI]", "ascents", "spikes",
        "learning rate",
    ]  # fmt: skip
    rows = []
    if any(compared.values()):
        for entry in numbers.configurations:
            smooth, comparison = entry.smoothness, compared.get(entry.name)
            difference = with_interval(comparison.mean, comparison.interval, ROUGHNESS) if comparison else NOTHING
            spikes = f"{smooth.spikes} in {len(smooth.roughness)}" if smooth.epochs > FEW_EPOCHS else NOTHING
            rows.append(
                [
                    escape(entry.name), three_digits(smooth.mean_roughness.mean), difference,
                    percent(smooth.upward_variation.mean, 1), spikes,
                    ", ".join(map(number, smooth.learning_rates)) or NOTHING,
                ]
            )  # fmt: skip
    rows += _planned([(entry, entry.roughness) for entry in numbers.planned], ROUGHNESS, before=1, after=3)
    return Table(header, rows, range(1, 6))


def cost(numbers: StudyNumbers) -> Table:
    """T9: gradient evaluations a step, and the measured time of a step for each number of models trained together."""
    times = numbers.step_times
    populations = sorted({row.population for row in times.rows}, reverse=True) if times else []
    header = ["configuration", "gradient evaluations a step"]
    for population in populations:
        together = f"{population} models" if population > 1 else "one model"
        header += [f"ms a step, {together}", f"times {escape(numbers.baseline.name)} [quartiles]"]
    rows = []
    for entry in numbers.configurations:
        cells = [_evaluations(entry)]
        for population in populations:
            measured = times.find(entry.name, population) if times else None
            cells += _time_cells(measured, entry is numbers.baseline) if measured else [NOTHING, NOTHING]
        rows.append([escape(entry.name), *cells])
    return Table(header, rows if any({*row[1:]} != {NOTHING} for row in rows) else [], range(1, len(header)))


def _time_cells(measured: StepTime, is_baseline: bool) -> list[str]:
    ratio = f"{measured.ratio:.2f} [{measured.low:.2f}, {measured.high:.2f}]"
    return [three_digits(measured.ms), "1" if is_baseline else ratio]


def _evaluations(entry: ConfigurationNumbers) -> str:
    mean = entry.reruns.gradient_evaluations.mean
    return f"{mean:.3g}" if math.isfinite(mean) else NOTHING


def _planned(
    comparisons: list[tuple[Rival, Comparison | None]], metric: Metric, before: int, after: int
) -> list[list[str]]:
    """Rows with the differences of comparisons that are not with the baseline, between so many empty cells."""
    return [
        [
            f"{escape(rival.name)} against {escape(rival.against)}",
            *[NOTHING] * before, with_interval(compared.mean, compared.interval, metric), *[NOTHING] * after,
        ]
        for rival, compared in comparisons if compared
    ]  # fmt: skip


TABLES = (two_groups, memorisation, smoothness, cost)
