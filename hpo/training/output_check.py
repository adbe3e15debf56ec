"""Whether a network's outputs have an accuracy: a class is predicted by the largest of them."""

import torch

from hpo.errors import UsageError


def check_outputs(output: torch.Size, classes: int) -> None:
    """Raises UsageError unless a network whose output for a sample has this shape gives one number a class.

    Every study reports accuracy, so that this holds for a loss of the user's own as well.
    """
    if output.numel() == 1:
        raise UsageError(
            f"the network gives one number a sample, and accuracy needs one for each of {classes} classes; give it "
            f"{classes} outputs and cross-entropy, as one logit with a threshold and regression are not supported yet"
        )
    if len(output) != 1:
        raise UsageError(
            f"the network's output for a sample has shape {tuple(output)}, and accuracy needs one number a class, "
            f"({classes},); flatten or pool it, as several predictions a sample are not supported yet"
        )
    if output[0] < classes:
        raise UsageError(
            f"the network has {output[0]} outputs, and the data set has {classes} classes; give it one output for "
            "every class"
        )
