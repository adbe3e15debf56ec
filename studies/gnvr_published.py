"""The published GNVR protocol, number by number; `studies/gnvr.py` is the comparison to draw conclusions from."""

from hpo import MLP, Configuration, Mnist1d, Study, log_range

ADAMW = {"learning_rate": log_range(1e-4, 1e-2), "weight_decay": log_range(1e-6, 1e-1)}

STUDY = Study(
    title="Gradient norm variance regularization (GNVR), the published protocol",
    hypothesis=(
        "Minimising the variance of the per-sample gradient norms within a batch improves robustness and "
        "generalization, particularly in the presence of label noise. The published test accuracies in % "
        "conflict: the authors' README has 47.63 ± 1.50 for the baseline and 47.82 ± 1.73 for GNVR (mean ± std of 5 "
        "seeds; λ 0.026), their results_noisy.json 46.75 and 46.02, with other best settings (λ 0.0093)."
    ),
    data=Mnist1d(samples=4000, label_noise=0.2, validation=0.2, split="last"),
    model=MLP((40, 256, 256, 10)),
    batch_size=64,
    tuning_epochs=15,  # tuned for half as long as it is rerun, and on the best epoch: both flatter noisy curves
    epochs=30,
    score="validation_accuracy",
    score_epoch="best",
    trials=20,
    seeds=5,
    tuning_runs=1,  # as published, so that every verdict is tentative
    margin=0.01,
    baseline="Baseline",
    configurations=(
        Configuration("Baseline", space=ADAMW),
        Configuration("GNVR", regularizer="gnvr", space=ADAMW | {"lambda": log_range(1e-3, 10)}, prediction="better"),
    ),
)
