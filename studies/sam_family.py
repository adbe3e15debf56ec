"""SAM, VaSSO and GAM over SGD, and SAM and GAM over Adam and AdamW; variants clean, noise20, noise40 and digits."""

from hpo import MLP, Configuration, Cosine, Digits, Mnist1d, Study, linear_range, log_range

SGD = {"learning_rate": log_range(1e-2, 1), "weight_decay": log_range(1e-6, 1e-2), "momentum": 0.9}
ADAM = {"learning_rate": log_range(1e-4, 1e-2), "weight_decay": log_range(1e-6, 1e-1)}
RHO = {"rho": log_range(0.01, 0.5)}
# The two of GAM's five that matter most are tuned; the others are the authors' for CIFAR-100.
GAM = {"rho": log_range(0.02, 0.5), "gamma": log_range(0.01, 0.5), "rho_prime": 0.02, "alpha": 0.6, "beta": 0.5}

STUDIES = {
    name: Study(
        title=f"Sharpness-aware methods over three optimizers: {title}",
        hypothesis=(
            "Flat minima generalize better: SAM improves on SGD, and VaSSO, which suppresses the variance of SAM's "
            "direction, and GAM, which seeks a small gradient norm all around, on SAM; also over Adam and AdamW."
        ),
        data=data,
        model=model,
        batch_size=batch_size,
        epochs=60,
        schedule=Cosine(),
        trials=40,
        seeds=12,
        tuning_runs=3,
        margin=0.01,
        baseline="SGD",
        configurations=(
            Configuration("SGD", optimizer="sgd", space=SGD),
            Configuration("SAM over SGD", optimizer="sgd", regularizer="sam", space=SGD | RHO, prediction="better"),
            Configuration(
                "VaSSO over SGD",
                optimizer="sgd",
                regularizer="vasso",
                space=SGD | RHO | {"theta": linear_range(0.1, 1)},
                prediction="better",
            ),
            Configuration("GAM over SGD", optimizer="sgd", regularizer="gam", space=SGD | GAM, prediction="better"),
            Configuration("AdamW", space=ADAM),
            Configuration("GAM over AdamW", regularizer="gam", space=ADAM | GAM),
            Configuration("Adam", optimizer="adam", space=ADAM),
            Configuration("SAM over Adam", optimizer="adam", regularizer="sam", space=ADAM | RHO),
        ),
    )
    for name, title, data, model, batch_size in (
        ("clean", "mnist1d with clean labels", Mnist1d(), MLP((40, 256, 256, 10)), 128),
        ("noise20", "mnist1d with 20% label noise", Mnist1d(label_noise=0.2), MLP((40, 256, 256, 10)), 128),
        ("noise40", "mnist1d with 40% label noise", Mnist1d(label_noise=0.4), MLP((40, 256, 256, 10)), 128),
        ("digits", "handwritten digits, 20% label noise", Digits(label_noise=0.2), MLP((64, 128, 128, 10)), 64),
    )
}
