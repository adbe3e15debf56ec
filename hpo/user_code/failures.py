"""Errors that a loss or a metric raises, as one sentence with its name, its line and the shapes of its arguments."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from hpo.errors import HpoError
from hpo.user_code.messages import UserCodeError
from hpo.user_code.ownership import is_user_file


class UserCodeFailure(RuntimeError):
    """The sentence about an error of user code; the traceback is that of the error."""


@contextmanager
def naming(code: str, outputs: Tensor, labels: Tensor) -> Iterator[None]:
    """Around a call of user code with these arguments: any error becomes a `UserCodeFailure`.

    Args:
        code: the code as messages name it, such as "metric 'auc'".
    """
    try:
        yield
    except (HpoError, MemoryError, TimeoutError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:
        place, reason = _place(error), _reason(error)
        shapes = f"outputs {tuple(outputs.shape)}, labels {tuple(labels.shape)}"
        sentence = reason if reason.startswith(code) else f"{code} raises {type(error).__name__}: {reason}"
        where = f"{place}, {shapes}" if place else shapes
        raise UserCodeFailure(f"{sentence} ({where})").with_traceback(error.__traceback__) from None


def describe_error(error: BaseException) -> str:
    """An error in one line, such as "mine.py, line 24: NameError: name 'q' is not defined"."""
    if isinstance(error, UserCodeFailure):
        return str(error)
    place, reason = _place(error), f"{type(error).__name__}: {_reason(error)}"
    return f"{place}: {reason}" if place else reason


def _reason(error: BaseException) -> str:
    return (str(error).strip() or "no message").partition("\n")[0]


@contextmanager
def refusing() -> Iterator[None]:
    """Around calls that fail in every attempt: a `UserCodeFailure` becomes a UsageError, which ends the worker."""
    try:
        yield
    except UserCodeFailure as failure:
        raise UserCodeError(f"{failure}; correct it for such arguments") from failure


def _place(error: BaseException) -> str:
    """ "study.py, line 12" of the user's last line that an error passed through, if any."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<") and is_user_file(file):
            place = f"{Path(file).name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place
