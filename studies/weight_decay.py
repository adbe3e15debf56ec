"""Weight decay alone, on MNIST-1D with 20% label noise: AdamW's, stronger AdamW decay, and Adam's L2."""

from hpo import MLP, Configuration, Mnist1d, Study, log_range

RATE = {"learning_rate": log_range(1e-4, 1e-2)}
DECAY = RATE | {"weight_decay": log_range(1e-6, 1e-1)}  # of AdamW and GNVR as published
LAMBDA = {"lambda": log_range(1e-3, 10)}
ADAM = {"Adam": "equivalent"}  # what is left to gain

STUDY = Study(
    title="Weight decay under label noise, with and without regularizers",
    hypothesis=(
        "What regularizers gain over AdamW under label noise is in part what more weight decay gains as well: AdamW "
        "whose range of weight decay ends a hundred times higher, and Adam, whose decay is part of the gradient (L2), "
        "are better than AdamW; regularizers over Adam then have less left to gain."
    ),
    data=Mnist1d(samples=4000, label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    batch_size=64,
    epochs=30,
    trials=40,
    seeds=40,
    tuning_runs=10,
    margin=0.01,
    baseline="AdamW",
    configurations=(
        Configuration("AdamW", space=DECAY),
        Configuration("AdamW, more decay", space=RATE | {"weight_decay": log_range(1e-3, 10)}, prediction="better"),
        Configuration("Adam", optimizer="adam", space=DECAY, prediction="better"),
        Configuration("GNVR", regularizer="gnvr", space=DECAY | LAMBDA, prediction="better"),
        Configuration("GNVR over Adam", optimizer="adam", regularizer="gnvr", space=DECAY | LAMBDA, against=ADAM),
        Configuration(
            "Sample clipping over Adam",
            optimizer="adam",
            regularizer="clip_sample",
            space=DECAY | {"clip": log_range(0.1, 10)},
            against=ADAM,
        ),
    ),
)
