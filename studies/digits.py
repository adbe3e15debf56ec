"""SAM, ROGC and SGSC against AdamW on scikit-learn's digits: real images that need no download."""

from hpo import MLP, Configuration, Digits, Study, linear_range, log_range

ADAMW = {"learning_rate": log_range(1e-4, 3e-2), "weight_decay": log_range(1e-4, 10)}

STUDY = Study(
    title="Regularizers on small real images with 20% label noise",
    hypothesis=(
        "What helps on generated data under label noise helps on images of handwritten digits as well: flat minima "
        "(SAM) and less weight on outliers (ROGC) improve on AdamW; agreement of signs (SGSC) makes no difference."
    ),
    data=Digits(label_noise=0.2),
    model=MLP((64, 128, 128, 10)),
    batch_size=64,
    epochs=30,
    trials=40,
    seeds=40,
    tuning_runs=10,
    margin=0.01,
    baseline="AdamW",
    configurations=(
        Configuration("AdamW", space=ADAMW),
        Configuration("SAM", regularizer="sam", space=ADAMW | {"rho": log_range(0.01, 0.5)}, prediction="better"),
        Configuration("ROGC", regularizer="rogc", space=ADAMW | {"k": linear_range(0, 5)}, prediction="better"),
        Configuration("SGSC", regularizer="sgsc", space=ADAMW | {"gamma": linear_range(0, 3)}, prediction="equivalent"),
    ),
)
