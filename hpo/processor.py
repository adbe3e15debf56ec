"""The processor, and the library by which NumPy multiplies matrices on it."""

import ctypes
import os
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

CPU_INFORMATION = Path("/proc/cpuinfo")
_WITH_AVX512 = {"skylakex", "cooperlake", "sapphirerapids"}  # OpenBLAS's names of its kernels


@cache
def is_amd() -> bool:
    """Whether Linux says that AMD made the processor."""
    with suppress(OSError):
        return "AuthenticAMD" in CPU_INFORMATION.read_text()
    return False


def cpu_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_one_openblas_thread() -> None:
    """Has NumPy multiply on one thread, as PyTorch does in a process that shares the machine with others."""
    if library := _openblas():
        library.scipy_openblas_set_num_threads64_(1)


def openblas_threads() -> int:
    """The threads on which NumPy multiplies; 0 where it does not use OpenBLAS."""
    library = _openblas()
    return library.scipy_openblas_get_num_threads64_() if library else 0


def openblas_has_avx512() -> bool:
    """Whether NumPy multiplies by kernels with AVX-512."""
    library = _openblas()
    return bool(library and _kernels(library) in _WITH_AVX512)


@cache
def _openblas() -> ctypes.CDLL | None:
    """The library in NumPy's wheels; None where NumPy uses another one."""
    numpy = find_spec("numpy")
    for place in numpy.submodule_search_locations or [] if numpy else []:
        for path in (Path(place).parent / "numpy.libs").glob("libscipy_openblas64_*"):
            with suppress(OSError, AttributeError):
                library = ctypes.CDLL(str(path))
                library.scipy_openblas_get_corename64_.restype = ctypes.c_char_p
                library.scipy_openblas_get_num_threads64_.restype = ctypes.c_int
                return library if library.scipy_openblas_set_num_threads64_ else None
    return None


@cache
def _kernels(library: ctypes.CDLL) -> str:
    return library.scipy_openblas_get_corename64_().decode().lower()
