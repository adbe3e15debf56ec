"""Random streams: every draw of a run is named, so that a seed means the same draws whoever makes them.

A seed has a *data* stream (label noise, split, batch order, augmentation) and a *training* stream (initial weights,
dropout); a *salt* gives the same data another training stream. Draws never come from a generator that other members of
a population or other epochs share.
"""

import hashlib

import torch


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for one named use of a seed, e.g. `stream(3, "data", "order", epoch)`."""
    return torch.Generator().manual_seed(_number(seed, *names))


def stream_key(seed: int, *names: str | int) -> int:
    """A 32-bit key for draws by `hpo.random`, for one named use of a seed."""
    return _number(seed, *names) & 0xFFFFFFFF


def training_names(salt: int = 0) -> tuple[str | int, ...]:
    """The names that a seed's training stream begins with; every salt has a stream of its own, 0 the usual one."""
    return ("training", "salt", salt) if salt else ("training",)


def _number(seed: int, *names: str | int) -> int:
    words = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1
