"""How often Python searches for objects that only refer to each other.

While modules load, these searches take a quarter of the time and find nothing. While models train, each may free
gigabytes: few objects hold many large tensors.
"""

import gc

USUAL = gc.get_threshold()
RARE = 100_000  # new objects between two searches


def search_rarely() -> None:
    """For a process that loads modules."""
    gc.set_threshold(RARE, *USUAL[1:])


def search_as_usual() -> None:
    """Ends `search_rarely`; another choice of the user stays."""
    if gc.get_threshold()[0] == RARE:
        gc.set_threshold(*USUAL)
