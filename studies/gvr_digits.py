"""GVR against plain AdamW on two augmented views of scikit-learn's digits: as `gvr_mnist1d`, on real images."""

from hpo import MLP, Configuration, Digits, Study, log_range

ADAMW = {"learning_rate": log_range(1e-4, 1e-2), "weight_decay": log_range(1e-6, 1e-1)}

STUDY = Study(
    title="Gradient variance reduction (GVR) on augmented handwritten digits",
    hypothesis=(
        "What penalising the difference between the gradients of two augmented views of the same samples does on "
        "generated data, it does on real images as well: it improves generalization, and by more than seeing two views "
        "of every sample a step improves it."
    ),
    data=Digits(augmented=True),
    model=MLP((64, 128, 128, 10)),
    batch_size=64,
    epochs=60,  # as in gvr_mnist1d
    trials=40,
    seeds=12,
    tuning_runs=3,
    margin=0.01,
    baseline="AdamW",
    configurations=(
        Configuration("AdamW", space=ADAMW),
        Configuration("AdamW, two views", regularizer="gvr", space=ADAMW | {"alpha": 0.0}),
        Configuration("GVR", regularizer="gvr", space=ADAMW | {"alpha": log_range(1e-4, 1)}, prediction="better"),
    ),
)
