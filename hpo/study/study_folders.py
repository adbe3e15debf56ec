"""The folders that a study leaves beside the database: its report, kept weights and TensorBoard's runs."""

import os
from pathlib import Path


def weights_folder() -> Path:
    """Where the weights of reruns are kept."""
    return Path(os.environ.get("HPO_WEIGHTS") or "weights")


def tensorboard_folder(study: str) -> Path:
    """Where TensorBoard's runs of a study are."""
    return Path(os.environ.get("HPO_TENSORBOARD", "runs")) / study.replace(":", "-")


def study_folders(study: str) -> list[Path]:
    """Those folders of a study that exist here."""
    return [folder for folder in (Path("reports") / study, *_moving(study)) if folder.is_dir()]


def rename_folders(study: str, new: str) -> list[str]:
    """Renames the folders of weights and runs, which are found by the study's name; says so, a sentence for each.

    A report stays: it names the study in its text.
    """
    sentences = []
    for old_folder, new_folder in zip(_moving(study), _moving(new), strict=True):
        if not old_folder.is_dir():
            continue
        try:
            if new_folder.exists():
                raise FileExistsError(None, "it exists")
            old_folder.rename(new_folder)
            sentences.append(f"renamed {old_folder} to {new_folder}")
        except OSError as error:
            sentences.append(f"{old_folder} stays: it cannot be renamed to {new_folder} ({error.strerror})")
    return sentences + [f"{folder} stays" for folder in [Path("reports") / study] if folder.is_dir()]


def _moving(study: str) -> tuple[Path, Path]:
    return weights_folder() / study, tensorboard_folder(study)
