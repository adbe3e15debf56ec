"""GVR against plain AdamW on MNIST-1D with augmented views: minutes on a CPU."""

from hpo import MLP, Configuration, Mnist1d, Study, log_range

ADAMW = {"learning_rate": log_range(1e-4, 1e-2), "weight_decay": log_range(1e-6, 1e-1)}

STUDY = Study(
    title="Gradient variance reduction (GVR) on augmented mnist1d",
    hypothesis=(
        "Penalising the difference between the gradients of two augmented views of the same samples improves "
        "generalization. GVR sees two views of every sample a step: AdamW on the sum of both views' losses, without "
        "the penalty, tells what that alone is worth."
    ),
    data=Mnist1d(samples=4000, augmented=True),
    model=MLP((40, 256, 256, 10)),
    batch_size=64,
    epochs=60,  # augmented data are learned slowly
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
