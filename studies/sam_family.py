"""SAM, VaSSO and GAM over SGD, and SAM and GAM over Adam and AdamW, on mnist1d: minutes on a CPU."""

from hpo import MLP, Configuration, Cosine, Mnist1d, Study, linear_range, log_range

SGD = {"learning_rate": log_range(1e-2, 1), "weight_decay": log_range(1e-6, 1e-2), "momentum": 0.9}
ADAM = {"learning_rate": log_range(1e-4, 1e-2), "weight_decay": log_range(1e-6, 1e-1)}
RHO = {"rho": log_range(0.01, 0.5)}
# The two of GAM's five that matter most are tuned; the others are the authors' for CIFAR-100.
GAM = {"rho": log_range(0.02, 0.5), "gamma": log_range(0.01, 0.5), "rho_prime": 0.02, "alpha": 0.6, "beta": 0.5}

STUDY = Study(
    title="Sharpness-aware methods over three optimizers",
    hypothesis=(
        "Flat minima generalize better: SAM improves on SGD, and VaSSO, which suppresses the variance of SAM's "
        "direction, and GAM, which seeks a small gradient norm all around, on SAM; also over Adam and AdamW."
    ),
    data=Mnist1d(samples=4000),
    model=MLP((40, 256, 256, 10)),
    batch_size=128,
    epochs=60,
    schedule=Cosine(),
    trials=40,
    seeds=10,
    margin=0.01,
    baseline="SGD",
    configurations=(
        Configuration("SGD", optimizer="sgd", space=SGD),
        Configuration("SAM", optimizer="sgd", regularizer="sam", space=SGD | RHO, prediction="better"),
        Configuration(
            "VaSSO",
            optimizer="sgd",
            regularizer="vasso",
            space=SGD | RHO | {"theta": linear_range(0.1, 1)},
            prediction="better",
        ),
        Configuration("GAM", optimizer="sgd", regularizer="gam", space=SGD | GAM, prediction="better"),
        Configuration("AdamW", space=ADAM),
        Configuration("GAM over AdamW", regularizer="gam", space=ADAM | GAM),
        Configuration("Adam", optimizer="adam", space=ADAM),
        Configuration("SAM over Adam", optimizer="adam", regularizer="sam", space=ADAM | RHO),
    ),
)
