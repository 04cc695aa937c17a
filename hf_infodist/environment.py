"""What a process of its own sets first: the environment that libraries read, the memory of glibc."""

import contextlib
import ctypes
import functools
import importlib.metadata
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def set_environment() -> None:
    """Set what libraries read when they are first imported; what the user has set stays."""
    for name, value in {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # ours say what matters
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "passive",  # threads that spin while they wait slow small networks down by tens
    }.items():
        os.environ.setdefault(name, value)


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of large tensors instead of returning it to the kernel after each layer.

    Fresh pages are dear: on two cores EfficientNet-Lite0 at 224 pixels runs 2 to 3 times as fast with this.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Return to the kernel what glibc keeps that nobody uses: between two models, which need pieces of other sizes."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


@functools.cache
def installed(package: str) -> str:
    """Return the version of an installed package: looked up once, as it takes a millisecond.

    Raises:
        importlib.metadata.PackageNotFoundError: If it is not installed.
    """
    return importlib.metadata.version(package)
