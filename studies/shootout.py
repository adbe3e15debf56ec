"""Nine regularizers over AdamW on MNIST-1D with one budget; variants clean, noise20 and noise40, by label noise."""

from hpo import MLP, Configuration, Mnist1d, Study, log_range

ADAMW = {"learning_rate": log_range(1e-4, 3e-2), "weight_decay": log_range(1e-4, 10)}

# Every regularizer over its whole default range, so that none is tuned by hand; `hpo list` shows them. All get the same
# number of trials, at least ten for each hyperparameter; hence three of GAM's five are its authors' for CIFAR-100.
GAM = {"rho_prime": 0.02, "alpha": 0.6, "beta": 0.5}
STUDIES = {
    name: Study(
        title=f"All regularizers on mnist1d with {title}",
        hypothesis=(
            "Methods that take weight from outlying samples (GNVR, per-sample clipping, ROGC) improve on AdamW the "
            "more labels are wrong; methods that seek flat minima (SAM, VaSSO, GAM) improve on it with and without "
            "noise."
        ),
        data=Mnist1d(samples=4000, label_noise=noise, augmented=True),  # GVR is about augmented views
        model=MLP((40, 256, 256, 10)),
        batch_size=64,
        epochs=30,
        trials=40,
        seeds=40,
        tuning_runs=10,
        margin=0.01,
        baseline="AdamW",
        configurations=(
            Configuration("AdamW", space=ADAMW),
            Configuration("SAM", regularizer="sam", space=ADAMW, prediction="better"),
            Configuration("VaSSO", regularizer="vasso", space=ADAMW, prediction="better"),
            Configuration("GAM", regularizer="gam", space=ADAMW | GAM, prediction="better"),
            Configuration("GVR", regularizer="gvr", space=ADAMW, prediction="better"),
            Configuration("GNVR", regularizer="gnvr", space=ADAMW, prediction=robust),
            Configuration("SGSC", regularizer="sgsc", space=ADAMW, prediction="equivalent"),
            Configuration("Global clipping", regularizer="clip_global", space=ADAMW, prediction="equivalent"),
            Configuration("Sample clipping", regularizer="clip_sample", space=ADAMW, prediction=robust),
            Configuration("ROGC", regularizer="rogc", space=ADAMW, prediction=robust),
        ),
    )
    for name, title, noise, robust in (
        ("clean", "clean labels", 0.0, "equivalent"),
        ("noise20", "20% label noise", 0.2, "better"),
        ("noise40", "40% label noise", 0.4, "better"),
    )
}
