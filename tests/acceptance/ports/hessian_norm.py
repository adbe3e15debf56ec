"""A penalty on the Frobenius norm of the Hessian, estimated as ‖H v‖² with a random sign vector v (Hutchinson)."""

from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, log_range


def grads(objective, params, state, hyper):
    signs = objective.random.signs(params)

    def directional(at):
        gradient = objective.grad(at)
        return sum((gradient[name] * signs[name]).sum() for name in at), {}

    def penalty(at):
        product, _ = objective.grad_of(directional, at)  # H v
        return hyper["strength"] * sum(leaf.square().sum() for leaf in product.values())

    gradient, value = objective.penalised_grad(params, penalty)
    return gradient, state, {"penalty": value}


HESSIAN = Regularizer("hessian_norm", grads, {"strength": log_range(1e-8, 1e-3, off="low")})

STUDY = Study(
    data=Mnist1d(label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    baseline="AdamW",
    configurations=(Configuration("AdamW"), Configuration("Hessian norm", regularizer=HESSIAN)),
)
