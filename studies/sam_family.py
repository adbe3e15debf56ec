"""SAM, VaSSO and GAM over SGD, and SAM and GAM over Adam and AdamW; variants clean, noise20, noise40 and digits."""

from hpo import MLP, Configuration, Cosine, Digits, Mnist1d, Study, linear_range, log_range

# Every optimizer has ranges of the same width: a factor of 300 for the learning rate and 10,000 for the weight decay.
# AdamW's decay needs larger values: it is multiplied by a smaller learning rate and not normalized as gradients are.
# Narrower ranges, which ended at a decay of 0.1 and a learning rate of 0.01, put AdamW 5 to 7 points behind SGD.
SGD = {"learning_rate": log_range(5e-3, 1.5), "weight_decay": log_range(1e-5, 1e-1), "momentum": 0.9}
ADAM = {"learning_rate": log_range(1e-4, 3e-2), "weight_decay": log_range(1e-5, 1e-1)}
ADAMW = {"learning_rate": log_range(1e-4, 3e-2), "weight_decay": log_range(1e-3, 10)}
RHO = {"rho": log_range(0.01, 1)}
VASSO = RHO | {"theta": linear_range(0.1, 1)}
# The two of GAM's five that matter most are tuned; the others are the authors' for CIFAR-100.
GAM = RHO | {"gamma": log_range(0.01, 1), "rho_prime": 0.02, "alpha": 0.6, "beta": 0.5}
SAM = {"SAM over SGD": "better"}  # both extend SAM

STUDIES = {
    name: Study(
        title=f"Sharpness-aware methods over three optimizers: {title}",
        hypothesis=(
            "Flat minima generalize better: SAM improves on SGD, and VaSSO, which suppresses the variance of SAM's "
            "direction, and GAM, which seeks a small gradient norm all around, on SAM; also over Adam and AdamW. With "
            "ranges of equal width AdamW and Adam reach SGD."
        ),
        data=data,
        model=model,
        batch_size=batch_size,
        epochs=60,
        schedule=Cosine(),
        trials=40,
        seeds=40,
        tuning_runs=10,
        margin=0.01,
        baseline="SGD",
        configurations=(
            Configuration("SGD", "sgd", space=SGD),
            Configuration("SAM over SGD", "sgd", "sam", space=SGD | RHO, prediction="better"),
            Configuration("VaSSO over SGD", "sgd", "vasso", space=SGD | VASSO, prediction="better", against=SAM),
            Configuration("GAM over SGD", "sgd", "gam", space=SGD | GAM, prediction="better", against=SAM),
            Configuration("AdamW", space=ADAMW, prediction="equivalent"),
            Configuration("GAM over AdamW", regularizer="gam", space=ADAMW | GAM, against={"AdamW": "better"}),
            Configuration("Adam", "adam", space=ADAM, prediction="equivalent"),
            Configuration("SAM over Adam", "adam", "sam", space=ADAM | RHO, against={"Adam": "better"}),
        ),
    )
    for name, title, data, model, batch_size in (
        ("clean", "mnist1d with clean labels", Mnist1d(), MLP((40, 256, 256, 10)), 128),
        ("noise20", "mnist1d with 20% label noise", Mnist1d(label_noise=0.2), MLP((40, 256, 256, 10)), 128),
        ("noise40", "mnist1d with 40% label noise", Mnist1d(label_noise=0.4), MLP((40, 256, 256, 10)), 128),
        ("digits", "handwritten digits, 20% label noise", Digits(label_noise=0.2), MLP((64, 128, 128, 10)), 64),
    )
}
