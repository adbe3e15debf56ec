"""Gradient centralisation (Yong et al., arXiv:2004.01461), and division by the standard deviation as well."""

from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, log_range


def standardised(divide):
    def grads(objective, params, state, _):
        gradient = objective.grad(params)
        for name, leaf in gradient.items():
            if leaf.dim() > 1:
                others = tuple(range(1, leaf.dim()))
                leaf = leaf - leaf.mean(others, keepdim=True)
                gradient[name] = leaf / (leaf.std() + 1e-8) if divide else leaf
        return gradient, state, {}

    return Regularizer("standardised" if divide else "centralised", grads)


STUDY = Study(
    data=Mnist1d(label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    baseline="SGD",
    configurations=(
        Configuration("SGD", "sgd"),
        Configuration("Centralised", "sgd", standardised(divide=False)),
        Configuration("Standardised", "sgd", standardised(divide=True), {"learning_rate": log_range(1e-5, 1e-2)}),
    ),
)
