"""Random numbers: named streams of a seed, and counter-based draws on any device and inside `vmap`.

Every draw of a run is named, so that a seed gives the same draws in every process. A seed has a *data* stream (label
noise, split, batch order, augmentation) and a *training* stream (initial weights, dropout); a *salt* gives the same
data another training stream. Members of a population and epochs never share a generator.

The draws of a generator depend on earlier draws; counter-based draws depend on integers that identify them, such as
(seed, epoch, sample). The mixing steps are those of a 32-bit integer hash with low bias (C. Wellons, "Prospecting for
hash functions", 2018: shifts 16, 15, 16 and multipliers 0x7feb352d, 0x846ca68b).
"""

import hashlib
import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def mix(key: Tensor | int, *parts: Tensor | int) -> Tensor:
    """One 32-bit key (int64 tensor, 0 … 2³² − 1) from integers of any broadcastable shapes; their order matters.

    At least one of them is a tensor, which determines the device.
    """
    mixed: Tensor | int = 0
    for part in (key, *parts):
        mixed = _scramble((mixed * 0x9E3779B1 + part) & _MASK)
    assert isinstance(mixed, Tensor)
    return mixed


def bits(keys: Tensor, draw: Tensor | int) -> Tensor:
    """Whole numbers 0 … 2²⁴ − 1, int64, one for each key and draw (broadcast); another `draw` is independent."""
    return mix(keys, draw) >> 8


def uniform(keys: Tensor, draw: Tensor | int) -> Tensor:
    """Numbers in [0, 1), float32, one for each key and draw (broadcast); another `draw` is independent."""
    return bits(keys, draw).to(torch.float32) * 2.0**-24  # 24 bits fill a float32's mantissa exactly


def normal(keys: Tensor, draw: Tensor | int) -> Tensor:
    """Standard normal numbers, float32 (Box–Muller), one for each key and draw."""
    radius = (-2 * torch.log1p(-uniform(keys, 2 * draw))).sqrt()
    return radius * torch.cos(2 * math.pi * uniform(keys, 2 * draw + 1))


def integer(keys: Tensor, draw: Tensor | int, count: int) -> Tensor:
    """Whole numbers from 0 to count − 1, int64, one for each key and draw."""
    return (uniform(keys, draw) * count).to(torch.int64)


def _scramble(x: Tensor | int) -> Tensor | int:
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for one named use of a seed, e.g. `stream(3, "data", "order", epoch)`."""
    return torch.Generator().manual_seed(_number(seed, *names))


def stream_key(seed: int, *names: str | int) -> int:
    """A 32-bit key for draws by `hpo.random`, for one named use of a seed."""
    return _number(seed, *names) & 0xFFFFFFFF


def training_names(salt: int = 0) -> tuple[str | int, ...]:
    """The first names of a seed's training stream; every salt has its own stream, 0 the usual one."""
    return ("training", "salt", salt) if salt else ("training",)


def _number(seed: int, *names: str | int) -> int:
    words = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1
