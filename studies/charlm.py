"""AdamW, EMA, Lion, SAM and GNVR on a language model of two transformer blocks over the characters of tales."""

from hpo import EMA, CharLM, Configuration, Constant, Study, Tales, log_range, per_model


def init(params):
    return {"momentum": {name: 0 * leaf for name, leaf in params.items()}}


def update(grads, state, params, hyper):
    """Lion (Chen et al., arXiv:2302.06675, algorithm 2): the sign of an interpolated momentum, decoupled decay."""
    beta1, beta2, rate = hyper["beta1"], hyper["beta2"], hyper["learning_rate"]
    moved, momentum = {}, {}
    for name, leaf in params.items():
        before, gradient = state["momentum"][name], grads[name]
        step = (beta1 * before + (1 - beta1) * gradient).sign() + hyper["weight_decay"] * leaf
        moved[name] = leaf - rate * step
        momentum[name] = beta2 * before + (1 - beta2) * gradient
    return moved, {"momentum": momentum}


LION = per_model(
    "lion", init, update,
    {"learning_rate": log_range(3e-5, 3e-3), "weight_decay": log_range(1e-3, 1), "beta1": 0.9, "beta2": 0.99},
)  # fmt: skip
ADAMW = {"learning_rate": log_range(3e-4, 3e-2), "weight_decay": log_range(1e-4, 1)}

STUDY = Study(
    title="Optimizers and regularizers on a character language model",
    hypothesis="Lion and AdamW reach the same loss; an average of the weights, SAM and GNVR find a lower one.",
    data=Tales(length=64),
    model=CharLM(vocabulary=Tales.vocabulary, length=64, width=32),
    batch_size=32,
    epochs=4,
    schedule=Constant(warmup_epochs=1),
    trials=12,
    seeds=6,
    tuning_runs=3,
    margin=0.01,  # nats per character
    baseline="AdamW",
    configurations=(
        Configuration("AdamW", space=ADAMW),
        Configuration("AdamW with EMA", average=EMA(decay=0.99), space=ADAMW, prediction="better"),
        Configuration("Lion", optimizer=LION, prediction="equivalent"),
        Configuration("SAM", regularizer="sam", space=ADAMW, prediction="better"),
        Configuration("GNVR", regularizer="gnvr", space={**ADAMW, "lambda": log_range(1e-3, 1)}, prediction="better"),
    ),
)
