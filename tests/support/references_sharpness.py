"""SAM, VaSSO, GAM, GVR and their variants by the formulas of their authors, each of whose code is named."""

from references_batch import Batch, Gradient, Hyper, Memory, combined, inner, mean, square_norm

Answer = tuple[Gradient, dict[str, float]]

GVR_SAMPLES = 32


def sam(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """g(w + ρ g/(‖g‖ + 1e-12)): davda54/sam."""
    g = batch.mean_gradient()
    return batch.moved(hyper["rho"], g).mean_gradient(), {"gradient_norm": size(g)}


def asam(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """g(w + ρ w² g/(‖|w| g‖ + 1e-12)): davda54/sam with adaptive=True."""
    g = batch.mean_gradient()
    return batch.moved(hyper["rho"], g, adaptive=True).mean_gradient(), {"gradient_norm": size(g)}


def vasso(batch: Batch, hyper: Hyper, memory: Memory) -> Answer:
    """g(w + ρ d/(‖d‖ + 1e-7)), d ← (1 − θ) d + θ g; d starts as the first g: BingcongLi/VaSSO."""
    g = batch.mean_gradient()
    d = combined((1 - hyper["theta"], memory["d"]), (hyper["theta"], g)) if memory else g
    memory["d"] = d
    return batch.moved(hyper["rho"], d, 1e-7).mean_gradient(), {"direction_norm": size(d)}


def gam(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """xxgege/GAM: m = g0 + |1 − β| g2."""
    return _gam(batch, hyper, g0_weight=1, g2_weight=abs(1 - hyper["beta"]))


def gam_paper(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """Algorithm 2 of arXiv:2303.03108, line 14: m = β g0 + (1 − β) g2."""
    return _gam(batch, hyper, g0_weight=hyper["beta"], g2_weight=1 - hyper["beta"])


def gam_adaptive(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """xxgege/GAM with adaptive=True."""
    return _gam(batch, hyper, g0_weight=1, g2_weight=abs(1 - hyper["beta"]), adaptive=True)


def _gam(batch: Batch, hyper: Hyper, g0_weight: float, g2_weight: float, adaptive: bool = False) -> Answer:
    """Four gradients, m, v, and v less γ times the part of m orthogonal to v, by the cosine of their angle."""
    g0 = batch.mean_gradient()
    g1 = batch.moved(hyper["rho_prime"], g0, adaptive=adaptive).mean_gradient()
    h = combined((1, g1), (-1, g0))
    second = batch.moved(hyper["rho"], h, adaptive=adaptive)
    g2 = second.mean_gradient()
    g3 = second.moved(hyper["rho_prime"], g2, adaptive=adaptive).mean_gradient()
    m = combined((g0_weight, g0), (g2_weight, g2))
    v = combined((hyper["alpha"], g1), (1 - hyper["alpha"], g3))
    cosine = inner(m, v).item() / (size(v) * size(m) + 1e-12)
    orthogonal = combined((1, m), (-cosine * size(m) / (size(v) + 1e-12), v))
    return combined((1, v), (-hyper["gamma"], orthogonal)), {"gradient_norm": size(g0)}


def gvr(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """The authors' code, over the last layer: the same 32 samples of both views."""
    subset = batch.subset(0, GVR_SAMPLES)
    return gvr_over(batch, subset, subset, batch.last_layer(), hyper)


def gvr_independent(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """The first 32 samples of view 1 and the last 32 of view 2."""
    count = len(batch.labels)
    return gvr_over(
        batch, batch.subset(0, GVR_SAMPLES), batch.subset(count - GVR_SAMPLES, count), batch.last_layer(), hyper
    )


def gvr_over(batch: Batch, first: Batch, second: Batch, names: list[str], hyper: Hyper) -> Answer:
    """L₁ + L₂ + α ‖∇L₁ − ∇L₂‖², the gradients over the parameters of these names and passes over each subset."""
    gradient_1 = batch.gradient(mean(first.sample_losses(0)), differentiable=True)
    gradient_2 = batch.gradient(mean(second.sample_losses(1)), differentiable=True)
    distance = sum(((gradient_1[name] - gradient_2[name]) ** 2).sum() for name in names)
    penalty = hyper["alpha"] * distance
    loss = mean(batch.sample_losses(0)) + mean(batch.sample_losses(1))
    return batch.gradient(loss + penalty), {"penalty": penalty.item()}


def size(gradient: Gradient) -> float:
    return square_norm(gradient).sqrt().item()
