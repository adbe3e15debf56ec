"""Per-layer rules: what per-sample gradients are needed for, without the per-sample gradients.

With a = a layer's input and δ = ∂loss_i/∂(its output), a layer's gradient for sample i is a function of a_i and δ_i
alone. δ comes from adding a zero probe to the layer's output and differentiating with respect to the probe.
"""

from hpo.taps.rule import Rule
from hpo.taps.rules import RULES
from hpo.taps.tape import Tape

__all__ = ["RULES", "Rule", "Tape"]
