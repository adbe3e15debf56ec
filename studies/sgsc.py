"""SGSC against plain Adam on MNIST-1D."""

from hpo import MLP, Configuration, Mnist1d, Study, linear_range, log_range

ADAM = {"learning_rate": log_range(1e-4, 3e-2), "weight_decay": 0.0}

STUDY = Study(
    title="Soft gradient sign consistency (SGSC)",
    hypothesis=(
        "Scaling every component of the gradient by how far the samples of a minibatch agree on its sign filters out "
        "conflicting updates; training should be smoother and generalization better."
    ),
    data=Mnist1d(samples=5000),
    model=MLP((40, 256, 256, 10)),
    batch_size=128,
    epochs=50,
    trials=40,
    seeds=40,
    tuning_runs=10,
    margin=0.01,
    baseline="Adam",
    configurations=(
        Configuration("Adam", optimizer="adam", space=ADAM),
        Configuration(
            "SGSC",
            optimizer="adam",
            regularizer="sgsc",
            space=ADAM | {"gamma": linear_range(0, 3)},
            prediction="better",
        ),
    ),
)
