"""AdamW, Nesterov, SAM and GNVR on a regression: scikit-learn's diabetes data, which need no download."""

from sklearn.datasets import load_diabetes

from hpo import MLP, Configuration, Study, Table

DATA = Table(load_diabetes(as_frame=True).frame, target="target", test=0.25)

STUDY = Study(
    title="Optimizers and regularizers on a small regression",
    hypothesis="On 442 patients all methods overfit; SAM and GNVR, which penalise sharp and uneven fits, do so less.",
    data=DATA,
    model=MLP((DATA.features, 64, 64, 1)),
    batch_size=32,
    epochs=30,
    trials=20,
    seeds=12,
    tuning_runs=3,
    margin=0.01,  # of R²
    baseline="AdamW",
    configurations=(
        Configuration("AdamW"),
        Configuration("Nesterov", optimizer="nesterov"),
        Configuration("SAM", regularizer="sam", prediction="better"),
        Configuration("GNVR", regularizer="gnvr", prediction="better"),
    ),
)
