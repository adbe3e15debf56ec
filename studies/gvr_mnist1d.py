"""GVR as its authors' code ran and as their README reads, against one and two views without penalty, on MNIST-1D."""

from hpo import MLP, Configuration, Mnist1d, Study, log_range

ADAMW = {"learning_rate": log_range(1e-4, 3e-2), "weight_decay": log_range(1e-4, 10)}
ALPHA = {"alpha": log_range(1e-4, 1)}

STUDY = Study(
    title="Gradient variance reduction (GVR) on augmented mnist1d",
    hypothesis=(
        "Penalising the difference between the gradients of two augmented views of the same samples improves "
        "generalization. GVR sees two views of every sample a step: AdamW on the sum of both views' losses, without "
        "the penalty, tells what that alone is worth. The authors' code takes both gradients over the same 32 samples; "
        "their README reads as if each view had 32 samples of its own, so that the penalty also covers the noise of "
        "the minibatch. That reading is behind the gain: with it the penalty adds to two views, without it hardly."
    ),
    data=Mnist1d(samples=4000, augmented=True),
    model=MLP((40, 256, 256, 10)),
    batch_size=64,
    epochs=60,  # augmented data are learned slowly
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
