"""GVR in two readings against one and two views without penalty on scikit-learn's digits: `gvr_mnist1d` on images."""

from hpo import MLP, Configuration, Digits, Study, log_range

ADAMW = {"learning_rate": log_range(1e-4, 3e-2), "weight_decay": log_range(1e-4, 10)}
ALPHA = {"alpha": log_range(1e-4, 1)}

STUDY = Study(
    title="Gradient variance reduction (GVR) on augmented handwritten digits",
    hypothesis=(
        "What penalising the difference between the gradients of two augmented views of the same samples does on "
        "generated data, it does on real images as well: it improves generalization, and by more than seeing two views "
        "of every sample a step improves it, if each view's gradient is over samples of its own."
    ),
    data=Digits(augmented=True),
    model=MLP((64, 128, 128, 10)),
    batch_size=64,
    epochs=60,  # as in gvr_mnist1d
    trials=40,
    seeds=40,
    tuning_runs=10,
    margin=0.01,
    baseline="AdamW",
    configurations=(
        Configuration("AdamW", space=ADAMW),
        Configuration("AdamW, two views", regularizer="gvr", space=ADAMW | {"alpha": 0.0}, prediction="better"),
        Configuration(
            "GVR",
            regularizer="gvr",
            space=ADAMW | ALPHA,
            prediction="better",
            against={"AdamW, two views": "equivalent"},
        ),
        Configuration(
            "GVR, independent",
            regularizer="gvr_independent",
            space=ADAMW | ALPHA,
            prediction="better",
            against={"AdamW, two views": "better", "GVR": "better"},
        ),
    ),
)
