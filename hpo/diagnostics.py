"""What a study measures at the final weights of its reruns, besides its metrics (`Study.diagnostics`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hpo.errors import UsageError, did_you_mean, require, require_whole


class Quantity(NamedTuple):
    """A number that a diagnostic reports for each rerun: its key in `result`, its name in text, and whether it is a
    fraction, shown in percent."""

    key: str
    words: str
    share: bool = False


@dataclass(frozen=True)
class Sharpness:
    """SAM's sharpness (Foret et al., arXiv:2010.01412): L(w + ρ g/‖g‖) − L(w), one ascent step along g = ∇L(w).

    L is the mean training loss without penalty, weight decay or label smoothing, in evaluation mode, without
    augmentation, on so many samples of the training part with their labels as given. A seed has the same samples in
    every configuration.

    Attributes:
        rho: ρ. samples: of the training part, drawn from the seed.
    """

    rho: float = 0.05
    samples: int = 1000
    quantities = (Quantity("sharpness", "sharpness"),)

    def __post_init__(self) -> None:
        require(self.rho > 0, "Sharpness: rho", self.rho, "a number above 0")
        require_whole("Sharpness: samples", self.samples)

    @property
    def words(self) -> str:
        return (
            f"sharpness: increase of the training loss after one ascent step of length {self.rho:g}, on "
            f"{self.samples:,} training samples"
        )


@dataclass(frozen=True)
class Hessian:
    """The Hessian of the loss L of `Sharpness`: its largest eigenvalue by power iteration, its trace by Hutchinson.

    Power iteration starts at a normal vector drawn from the seed and ends when the Rayleigh quotient changes by less
    than a share `tolerance`, or after so many `iterations`. It finds the eigenvalue that is largest in magnitude;
    where that is negative, it is repeated with the Hessian shifted by it. The trace is the mean of v·Hv over random
    vectors of ±1 from the seed (Hutchinson, 1990).

    Attributes:
        samples: of the training part, drawn from the seed. probes: random vectors for the trace.
    """

    samples: int = 500
    tolerance: float = 1e-3
    iterations: int = 50
    probes: int = 20
    quantities = (Quantity("hessian_top", "top Hessian eigenvalue"), Quantity("hessian_trace", "Hessian trace"))

    def __post_init__(self) -> None:
        require(0 < self.tolerance < 1, "Hessian: tolerance", self.tolerance, "a number between 0 and 1")
        for name in ("samples", "iterations", "probes"):
            require_whole(f"Hessian: {name}", getattr(self, name))

    @property
    def words(self) -> str:
        return (
            f"Hessian of the training loss on {self.samples:,} training samples: largest eigenvalue by at most "
            f"{self.iterations} power iterations (relative tolerance {self.tolerance:g}), trace by Hutchinson's "
            f"estimator with {self.probes} random vectors"
        )


@dataclass(frozen=True)
class Calibration:
    """The expected calibration error on the test set (Guo et al., arXiv:1706.04599), for classification.

    Σ_b (n_b/n) |accuracy_b − confidence_b| over bins of equal width of the confidence, the probability of the predicted
    class.

    Attributes:
        bins: their number.
    """

    bins: int = 15
    quantities = (Quantity("calibration_error", "calibration error", share=True),)

    def __post_init__(self) -> None:
        require_whole("Calibration: bins", self.bins)

    @property
    def words(self) -> str:
        return f"calibration error: expected difference of confidence and accuracy on the test set, in {self.bins} bins"


Diagnostic = Sharpness | Hessian | Calibration
DIAGNOSTICS: dict[str, type[Diagnostic]] = {"sharpness": Sharpness, "hessian": Hessian, "calibration": Calibration}

QUANTITIES = {each.key: each for kind in DIAGNOSTICS.values() for each in kind.quantities}


def described_words(described: Mapping[str, Any]) -> str:
    """What a diagnostic of a study's definition measures."""
    kinds = {kind.__name__: kind for kind in DIAGNOSTICS.values()}
    settings = {name: value for name, value in described.items() if name != "kind"}
    return kinds[described["kind"]](**settings).words


def chosen_diagnostics(given: Any, task: str) -> tuple[Diagnostic, ...]:
    """The diagnostics that a study names, by name or as objects with settings.

    Raises:
        UsageError: there is none of that name, one is given twice, or the task has no such diagnostic.
    """
    valid = isinstance(given, Sequence) and not isinstance(given, str)
    require(valid, "diagnostics", given, 'a tuple of names, such as ("sharpness", "hessian")')
    chosen = tuple(_diagnostic(each) for each in given)
    kinds = [type(each) for each in chosen]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise UsageError(f"diagnostics has {kind.__name__} twice; give it once")
    if Calibration in kinds and task != "classification":
        raise UsageError("diagnostics has calibration, which is defined for classification only; leave it out")
    return chosen


def _diagnostic(given: Any) -> Diagnostic:
    if isinstance(given, Diagnostic):
        return given
    known = ", ".join(map(repr, DIAGNOSTICS))
    if given not in DIAGNOSTICS:
        hint = did_you_mean(str(given), DIAGNOSTICS)
        raise UsageError(
            f"diagnostics has {given!r}; choose from {known}, or give hpo.Sharpness(...) and the like{hint}"
        )
    return DIAGNOSTICS[given]()
