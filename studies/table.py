"""AdamW, per-sample clipping and ROGC on a table: scikit-learn's breast cancer data with label noise, no download."""

from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from hpo import MLP, Configuration, Study, Table, whole

DATA = Table(load_breast_cancer(as_frame=True).frame, target="target", test=0.25, label_noise=0.2)


def auc(outputs, labels):
    """The area under the ROC curve of the logit of class 1."""
    return roc_auc_score(labels, outputs)


STUDY = Study(
    title="Clipping on a small table with noisy labels",
    hypothesis="Samples with large gradients have wrong labels more often, so that it helps to clip the gradients.",
    data=DATA,
    model=MLP((DATA.features, 64, 1)),  # one logit
    batch_size=32,
    epochs=30,
    trials=20,
    seeds=12,
    tuning_runs=3,
    metrics={"auc": whole(auc)},
    baseline="AdamW",
    configurations=(
        Configuration("AdamW"),
        Configuration("Clipping", regularizer="clip_sample", prediction="better"),
        Configuration("ROGC", regularizer="rogc", prediction="better"),
    ),
)
