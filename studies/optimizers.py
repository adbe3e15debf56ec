"""What people train with, against AdamW; variants mnist1d and digits (20% label noise), charlm (characters), table."""

from pytorch_optimizer import AdEMAMix, Lion
from schedulefree import AdamWScheduleFree
from sklearn.datasets import load_breast_cancer
from torch.optim import AdamW, Muon

from hpo import MLP, CharLM, Configuration, Cosine, Digits, Mnist1d, Study, Table, Tales, from_torch, log_range


def muon_and_adamw(named_parameters, **rates):
    """Muon for hidden matrices, with AdamW's size of updates, AdamW for the others, as Muon's author advises."""
    hidden = {name for name, leaf in named_parameters if leaf.ndim == 2 and name.startswith(("linear2", "blocks"))}
    muon, adamw = ([leaf for name, leaf in named_parameters if (name in hidden) is kept] for kept in (True, False))
    return [Muon(muon, adjust_lr_fn="match_rms_adamw", **rates), AdamW(adamw, **rates)]


def configurations(scale, muon, robust):
    """Every method, with learning rates `scale` times those of a multilayer perceptron, and its prediction."""
    # Ranges of equal width; Lion's and Schedule-Free's are shifted as their authors advise.
    rates = {"learning_rate": log_range(1e-4 * scale, 3e-2 * scale), "weight_decay": log_range(1e-3, 10)}
    lion = {"learning_rate": log_range(1e-5 * scale, 3e-3 * scale), "weight_decay": log_range(1e-2, 100)}
    free = rates | {"learning_rate": log_range(3e-4 * scale, 9e-2 * scale)}  # its average replaces the schedule
    ademamix = rates | {"betas": (0.9, 0.999, 0.999), "weight_decouple": True}  # for about 1,000 steps
    clip = rates | {"clip": log_range(0.1, 10)}
    return (
        Configuration("AdamW", space=rates),
        Configuration("Lion", from_torch(Lion, **lion)),
        Configuration("Muon", from_torch(muon_and_adamw, **rates), prediction=muon),
        Configuration("Schedule-Free", from_torch(AdamWScheduleFree, **free), space={"schedule.end": 1.0}),
        Configuration("AdEMAMix", from_torch(AdEMAMix, **ademamix)),
        Configuration("SAM", regularizer="sam", space=rates | {"rho": log_range(0.01, 1)}, prediction="better"),
        Configuration("ASAM", regularizer="asam", space=rates | {"rho": log_range(0.1, 10)}, prediction="better"),
        Configuration("GNVR", regularizer="gnvr", space=rates | {"lambda": log_range(1e-3, 10)}, prediction=robust),
        Configuration("Sample clipping", regularizer="clip_sample", space=clip, prediction=robust),
    )


TABLE = Table(load_breast_cancer(as_frame=True).frame, target="target", test=0.25, label_noise=0.2)
CHARLM = CharLM(Tales.vocabulary, 32, 16, blocks=1)

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
        configurations=configurations(scale, muon, robust),
    )
    for name, title, data, model, batch_size, epochs, scale, muon, robust in (
        ("mnist1d", "mnist1d", Mnist1d(label_noise=0.2), MLP((40, 128, 128, 10)), 64, 30, 1, None, "better"),
        ("digits", "digits", Digits(label_noise=0.2), MLP((64, 128, 128, 10)), 64, 30, 1, None, "better"),
        ("charlm", "generated tales", Tales(32, 32_000), CHARLM, 32, 8, 10, "better", None),  # needs higher rates
        ("table", "the breast cancer table", TABLE, MLP((TABLE.features, 64, 64, 1)), 32, 30, 1, None, "better"),
    )
}
