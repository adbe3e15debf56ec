"""The weights of reruns, a safetensors file each, with where they come from."""

import json
import logging
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import torch
from torch import nn

from hpo.errors import UsageError
from hpo.study.study import Study
from hpo.training.initial_models import build
from hpo.training.recipe import Result
from hpo.trials import Slot
from hpo.user_code.messages import warn_once
from hpo.worker.recipes import Recipes

FOLDER = "HPO_WEIGHTS"  # the environment variable that names the folder; without it no weights are kept

log = logging.getLogger(__name__)


class WeightsFolder:
    """Where a study's reruns leave their weights: FOLDER/STUDY/CONFIGURATION/seed-1000.safetensors."""

    def __init__(self, folder: Path, study: str, provenance: Mapping[str, Any]) -> None:
        """provenance: of all files, as JSON values; each file adds its own."""
        self.folder, self.study, self.provenance = folder, study, provenance
        _safetensors()

    def save(self, configuration: str, slot: Slot, result: Result) -> None:
        """Writes the weights of a rerun that did not diverge; a full or unavailable disk is only a warning."""
        path = weights_path(self.folder, self.study, configuration, slot.seed)
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.half")
        try:
            if result.weights is None:
                path.unlink(missing_ok=True)  # of an earlier setting
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            own = {
                "configuration": configuration, "seed": slot.seed, "tuning_run": slot.tuning_run + 1,
                "setting": slot.setting, "metrics": result.final,
            }  # fmt: skip
            metadata = {"format": "pt", "hpo": json.dumps({**self.provenance, **own})}
            temporary.write_bytes(_safetensors().save(result.weights, metadata))  # `save_file` raises no OSError
            temporary.replace(path)
        except OSError as error:
            warn_once(f"cannot write weights to {path.parent} ({error.strerror}); the results are stored without them")
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def from_environment(study: str, provenance: Mapping[str, Any]) -> WeightsFolder | None:
    """The folder that `HPO_WEIGHTS` names; None where it names none.

    Raises:
        UsageError: safetensors is not installed.
    """
    folder = os.environ.get(FOLDER)
    return WeightsFolder(Path(folder), study, provenance) if folder else None


def read_model(
    definition: Study, configuration: str, seed: int, folder: str | Path, setting: Mapping[str, Any] | None
) -> nn.Module:
    """The network of a rerun; see `hpo.load_model`.

    Args:
        setting: of the rerun in the database, or None where that is not known.

    Raises:
        UsageError: there are no such weights, they are of a rerun with another setting, or the study's network has
            other parameters by now.
    """
    path = weights_path(Path(folder), str(definition.name), configuration, seed)
    if not path.is_file():
        found = sorted(str(each) for each in path.parent.parent.glob("*/*.safetensors"))
        found = found or sorted(str(each) for each in Path(folder).glob(f"*/{path.parent.name}/{path.name}"))
        there = f"; there are {', '.join(found[:3])}{' and more' if len(found) > 3 else ''}" if found else ""
        raise UsageError(f"there are no weights {path}; `hpo run STUDY --keep-weights` keeps those of reruns{there}")
    with _safetensors().safe_open(path, framework="pt") as file:
        provenance = json.loads(file.metadata()["hpo"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
    if setting is not None and provenance["setting"] != dict(setting):
        raise UsageError(
            f"{path} has the weights of a rerun with an earlier setting, which a better trial has replaced since; its "
            "present rerun was made without --keep-weights"
        )
    recipes = Recipes(definition, lambda: None)  # type: ignore[arg-type, return-value]
    parts = recipes.parts(configuration, provenance["setting"])
    module = build(recipes.study_with(parts.training).model, seed)
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in tensors.items()}:
        raise UsageError(
            f"the network of {definition.name} has other parameters than {path}; use the study as it was then"
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])
    return module.eval()


def weights_path(folder: Path, study: str, configuration: str, seed: int) -> Path:
    """The file of a rerun's weights."""
    return folder / study / quote(configuration, safe=" (),+=") / f"seed-{seed}.safetensors"


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as error:
        raise UsageError("weights are kept in another package's format: pip install safetensors") from error
    return safetensors.torch
