"""What of hpo may enter a script: code that runs without hpo, and what stands for the rest."""

from hpo.tasks import IGNORED

# The modules whose code may enter a script: plain functions of tensors, and networks.
PLAIN_MODULES = (
    "hpo.data.augmentation",
    "hpo.errors",
    "hpo.models.",
    "hpo.optim.regularizers.",
    "hpo.random",
    "hpo.tree",
)
# What stands for a name of a module: an import, a statement, or "" for what every script with a regularizer has.
SUBSTITUTES = {
    ("hpo.gradients.objective", "Objective"): "",
    ("hpo.optim.regularizer", "State"): "State = dict[str, Any]",
    ("hpo.models.dropout", "Dropout"): "from torch.nn import Dropout",
    ("hpo.errors", "UsageError"): "UsageError = ValueError",
    ("hpo.tasks", "IGNORED"): f"IGNORED = {IGNORED}",
}


def is_plain(module: str) -> bool:
    return f"{module}.".startswith(PLAIN_MODULES)
