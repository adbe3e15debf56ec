"""What people train with, against AdamW; variants mnist1d and digits (20% label noise), charlm (characters), table."""

from pytorch_optimizer import AdEMAMix, Lion
from schedulefree import AdamWScheduleFree
from sklearn.datasets import load_breast_cancer
from torch.optim import AdamW, Muon

from hpo import MLP, CharLM, Configuration, Cosine, Digits, Mnist1d, Study, Table, Tales, from_torch, log_range


def muon_and_adamw(named_parameters, **rates):
    """Muon for hidden matrices, AdamW for vectors, embeddings, the first and last layer, as its author advises."""
    hidden = {name for name, leaf in named_parameters if leaf.ndim == 2 and name.startswith(("linear2", "blocks"))}
    muon, adamw = ([leaf for name, leaf in named_parameters if (name in hidden) is kept] for kept in (True, False))
    return [Muon(muon, adjust_lr_fn="match_rms_adamw", **rates), AdamW(adamw, **rates)]


# Ranges of equal width for all: a factor of 300 for the learning rate and 10,000 for the weight decay. Lion's rate is a
# tenth of AdamW's and its decay ten times as large, Schedule-Free's rate three times as large, as their authors advise.
RATES = {"learning_rate": log_range(1e-4, 3e-2), "weight_decay": log_range(1e-3, 10)}
LION = from_torch(Lion, learning_rate=log_range(1e-5, 3e-3), weight_decay=log_range(1e-2, 100))
MUON = from_torch(muon_and_adamw, **RATES)  # with updates as large as AdamW's, so that both share a learning rate
FREE = from_torch(AdamWScheduleFree, **RATES | {"learning_rate": log_range(3e-4, 9e-2)})
ADEMAMIX = from_torch(AdEMAMix, betas=(0.9, 0.999, 0.999), weight_decouple=True, **RATES)  # 0.999 for about 1,000 steps
SAM, ASAM = RATES | {"rho": log_range(0.01, 1)}, RATES | {"rho": log_range(0.1, 10)}
GNVR, CLIP = RATES | {"lambda": log_range(1e-3, 10)}, RATES | {"clip": log_range(0.1, 10)}
TABLE = Table(load_breast_cancer(as_frame=True).frame, target="target", test=0.25, label_noise=0.2)

STUDIES = {
    name: Study(
        title=f"Optimizers and regularizers that people use: {title}",
        hypothesis=(
            "Tuned with equal budgets, no newer optimizer is better than AdamW on every task, but Muon is on the "
            "character model. SAM and ASAM find flatter minima and are better at twice the gradient evaluations; "
            "GNVR and per-sample clipping are better where labels are wrong."
        ),
        data=data,
        model=model,
        batch_size=batch_size,
        epochs=epochs,
        schedule=Cosine(),
        trials=40,
        seeds=40,
        tuning_runs=10,
        diagnostics=("sharpness",),
        margin=0.01,
        baseline="AdamW",
        configurations=(
            Configuration("AdamW", space=RATES),
            Configuration("Lion", LION),
            Configuration("Muon", MUON, prediction=muon),
            Configuration("Schedule-Free", FREE, space={"schedule.end": 1.0}),  # its average replaces the schedule
            Configuration("AdEMAMix", ADEMAMIX),
            Configuration("SAM", regularizer="sam", space=SAM, prediction="better"),
            Configuration("ASAM", regularizer="asam", space=ASAM, prediction="better"),
            Configuration("GNVR", regularizer="gnvr", space=GNVR, prediction=robust),
            Configuration("Sample clipping", regularizer="clip_sample", space=CLIP, prediction=robust),
        ),
    )
    for name, title, data, model, batch_size, epochs, muon, robust in (
        ("mnist1d", "mnist1d", Mnist1d(label_noise=0.2), MLP((40, 128, 128, 10)), 64, 30, None, "better"),
        ("digits", "digits", Digits(label_noise=0.2), MLP((64, 128, 128, 10)), 64, 30, None, "better"),
        ("charlm", "characters", Tales(32, 32_000), CharLM(Tales.vocabulary, 32, 16, blocks=1), 32, 8, "better", None),
        ("table", "a table", TABLE, MLP((TABLE.features, 64, 64, 1)), 32, 30, None, "better"),
    )
}
