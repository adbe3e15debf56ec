"""Layer rules: norms, means of signs and weighted means of per-sample gradients, without forming these.

With a = a layer's input and δ = ∂loss_i/∂(its output), a layer's gradient for sample i is a function of a_i and δ_i
only. δ comes from adding a zero probe to the layer's output and differentiating with respect to the probe.
"""

from hpo.gradients.layer_rules.recorder import LayerRecorder, RecordedLayer
from hpo.gradients.layer_rules.registry import RULES
from hpo.gradients.layer_rules.rule import SAMPLE_GRADS, Rule

__all__ = ["RULES", "SAMPLE_GRADS", "LayerRecorder", "RecordedLayer", "Rule"]
