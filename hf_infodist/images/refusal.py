"""What `datasets` and the Hub raise, in the words of this package."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hf_infodist.errors import InfodistError, NotFoundError, ResourceError, UnfitError, UsageError, refused_by_system
from hf_infodist.hub import gated, missing, refusal


@contextmanager
def in_our_words(name: str, config: str | None = None) -> Iterator[None]:
    """Tell failures of `datasets` in three lines."""
    try:
        yield
    except (MemoryError, InfodistError):
        raise
    except Exception as error:
        raise _of_this_machine(error) or _refusal(name, config, error) from error


def _of_this_machine(error: Exception) -> InfodistError | None:
    """Return what the system refused about folders of ours: nothing of that is the fault of a data set."""
    import datasets
    from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE

    told = refused_by_system(error)
    inner = error.__cause__ if error.__cause__ is not None and not isinstance(error, OSError) else error
    place = str(getattr(inner, "filename", None) or "")
    ours = (str(datasets.config.HF_DATASETS_CACHE), HF_HOME, HF_HUB_CACHE, tempfile.gettempdir())
    return told if isinstance(told, ResourceError) or (told and place.startswith(ours)) else None


def _refusal(name: str, config: str | None, error: Exception) -> InfodistError:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HFValidationError

    why = first_line(error)
    if "scripts are no longer supported" in why:
        fix = "choose a dataset stored as images or parquet, or convert this one"
        return UnfitError(f"{name} needs a loading script", "code of a dataset is never run", fix)
    repository, _, revision = name.partition("@")
    if refused := refusal("dataset", repository, revision or None, error):
        return refused
    if isinstance(error, DatasetNotFoundError | HFValidationError):
        return (gated if "is a gated dataset" in why else missing)("dataset", repository)
    if "onfig" in why and (listed := re.search(r"\[(.+)\]", str(error))):
        return _which_config(name, config, re.findall(r"'([^']+)'", listed[1]))
    if isinstance(error, FileNotFoundError):
        return UnfitError(f"{name} holds no readable data", why, "give a folder of images or parquet files")
    return UnfitError(f"{name} cannot be read", why, "repair it, or choose another dataset")


def _which_config(name: str, config: str | None, configs: Sequence[str]) -> InfodistError:
    why, fix = f"it has {', '.join(configs)}", f"add --config {configs[0]}, or another"
    if config is None:
        return UsageError(f"{name} has several configurations", why, fix)
    return NotFoundError(f"there is no configuration {config!r} of {name}", why, fix)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or of what it wraps where it says nothing itself."""
    from datasets.exceptions import DatasetGenerationError

    error = error.__cause__ or error if isinstance(error, DatasetGenerationError) else error
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
