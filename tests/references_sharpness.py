"""SAM, VaSSO, GAM and GVR from their equations: gradients at moved parameters, and of the distance of two gradients."""

from references_batch import Batch, Gradient, Hyper, Memory, combined, inner, mean, square_norm

Answer = tuple[Gradient, dict[str, float]]

GVR_SAMPLES = 32


def sam(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """g(w + ρ g/‖g‖)."""
    g = batch.mean_gradient()
    return batch.moved(hyper["rho"], g).mean_gradient(), {"gradient_norm": square_norm(g).sqrt().item()}


def vasso(batch: Batch, hyper: Hyper, memory: Memory) -> Answer:
    """g(w + ρ d/‖d‖), d ← (1 − θ) d + θ g; d starts as the first g."""
    g = batch.mean_gradient()
    d = combined((1 - hyper["theta"], memory["d"]), (hyper["theta"], g)) if memory else g
    memory["d"] = d
    return batch.moved(hyper["rho"], d).mean_gradient(), {"direction_norm": square_norm(d).sqrt().item()}


def gam(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """The accelerated form: four gradients, m, v, and v − γ (m − (m·v/‖v‖²) v)."""
    g0 = batch.mean_gradient()
    g1 = batch.moved(hyper["rho_prime"], g0).mean_gradient()
    h = combined((1, g1), (-1, g0))
    second = batch.moved(hyper["rho"], h)
    g2 = second.mean_gradient()
    g3 = second.moved(hyper["rho_prime"], g2).mean_gradient()
    m = combined((1, g0), (abs(1 - hyper["beta"]), g2))
    v = combined((hyper["alpha"], g1), (1 - hyper["alpha"], g3))
    orthogonal = combined((1, m), (-inner(m, v) / square_norm(v), v))
    return combined((1, v), (-hyper["gamma"], orthogonal)), {"gradient_norm": square_norm(g0).sqrt().item()}


def gvr(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """L₁ + L₂ + α ‖∇L₁ − ∇L₂‖² over the last layer; the first 32 samples of view 1 and the last 32 of view 2."""
    losses_1, losses_2 = batch.sample_losses(0), batch.sample_losses(1)
    gradient_1 = batch.gradient(mean(losses_1[:GVR_SAMPLES]), differentiable=True)
    gradient_2 = batch.gradient(mean(losses_2[-GVR_SAMPLES:]), differentiable=True)
    distance = sum(((gradient_1[name] - gradient_2[name]) ** 2).sum() for name in batch.last_layer())
    penalty = hyper["alpha"] * distance
    return batch.gradient(mean(losses_1) + mean(losses_2) + penalty), {"penalty": penalty.item()}
