"""Weights: fetched whole, and only in formats that run no code."""

from __future__ import annotations

import json
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from hf_infodist.errors import UnfitError, refused_by_system
from hf_infodist.hub import missing, one_line, refusal, unreachable
from hf_infodist.models.source import Source, quiet, refusing

SAFE_WEIGHTS = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
PICKLED_WEIGHTS = ["pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"]
WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and `torch.compile` put before the names of weights."""

_TIMM = (  # in this order (timm.models._hub)
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
    *(f"open_clip_{name}" for name in ("model.safetensors", "pytorch_model.safetensors")),
    *(f"open_clip_pytorch_model.{ending}" for ending in ("bin", "pth")),
)
_TIMM_ENDINGS = (".safetensors", ".pth", ".pth.tar", ".bin")


def fetch_weights(source: Source, *, pickles: bool = True) -> Source:
    """Fetch weights that are not here yet, and make sure that they are whole and harmless.

    Args:
        source: From `locate`.
        pickles: Whether weights that are not safetensors are read, if they hold nothing but tensors.

    Raises:
        NotFoundError: If they cannot be reached now.
        UnfitError: If there are none, or if they are corrupt or may run code.
    """
    if source.fresh:
        return source
    if source.folder is None:
        if not pickles:
            raise _only_pickles(source)
        _check_weights(source, _download(source))
        return source
    folder = source.folder
    if source.repo:
        with quiet(bars=True):
            folder = snapshot(source.repo, source.revision, SAFE_WEIGHTS)
            if pickles and not weight_files(source, folder):
                folder = snapshot(source.repo, source.revision, PICKLED_WEIGHTS)
    files = weight_files(source, folder)
    if not pickles and not any(path.suffix == ".safetensors" for path in files):
        raise _only_pickles(source)
    if not files:
        why = "there is no model.safetensors and no pytorch_model.bin; ONNX, TensorFlow and Flax files are not read"
        fix = f"convert them, choose another repository, or use random:{source.id} for fresh weights"
        raise UnfitError(f"{source.id!r} has no PyTorch weights", why, fix)
    for path in files:
        _check_weights(source, path)
    return replace(source, folder=folder)


def _only_pickles(source: Source) -> UnfitError:
    why = "here only safetensors are read: other formats may hold code"
    return UnfitError(f"{source.id!r} has no safetensors", why, "ask its author for them, or choose another model")


# Weights


def weight_files(source: Source, folder: Path) -> list[Path]:
    """List the files that the library will read weights from, and no others: each library has an order of its own."""
    if source.library == "timm":
        named = (path for name in _TIMM if (path := folder / name).is_file())
        ended = (path for ending in _TIMM_ENDINGS for path in sorted(folder.glob(f"*{ending}")))
        return list(islice(chain(named, ended), 1))
    for name in (SAFE_WEIGHTS[0], SAFE_WEIGHTS[2], PICKLED_WEIGHTS[0], PICKLED_WEIGHTS[2]):
        if (path := folder / name).is_file():
            return _shards(source, path) if path.suffix == ".json" else [path]
    return []


def _shards(source: Source, index: Path) -> list[Path]:
    """Return the files that an index names."""
    with refusing(source, f"{index.name} cannot be read"):
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        what, why = f"{source.id!r} is incomplete", f"{index.name} names {missing[0]}, which is not there"
        raise UnfitError(what, why, "download or save it again")
    return [index.parent / name for name in names]


def prefix_of(paths: Sequence[Path]) -> str:
    """Return what a wrapper has put before the name of every weight: ``module.``, ``_orig_mod.``; often nothing.

    Args:
        paths: Files that have passed their check.
    """
    names = [name for path in paths for name in _names(path)]
    return next((prefix for prefix in WRAPPERS if names and all(name.startswith(prefix) for name in names)), "")


def _names(path: Path) -> list[str]:
    import torch
    from safetensors import safe_open

    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return list(file.keys())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [name for name in torch.load(path, map_location="meta", weights_only=True) if isinstance(name, str)]


def downloaded(source: Source) -> Path:
    """Return where torch's cache has the weight file of an address, once it is there."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / source.url.rpartition("/")[2]


def _download(source: Source) -> Path:
    """Put a weight file into torch's cache, where its library will look for it."""
    import torch
    from huggingface_hub import constants

    path = downloaded(source)
    if path.is_file():
        return path
    if constants.HF_HUB_OFFLINE:
        raise unreachable(source.id, "the network")
    path.parent.mkdir(parents=True, exist_ok=True)
    sha256_start = re.search(r"-([a-f0-9]{8,})\.", path.name)
    with refusing(source, "its download is not what was published"):
        try:
            torch.hub.download_url_to_file(source.url, str(path), sha256_start and sha256_start[1])
        except OSError as error:
            raise unreachable(source.id, source.url, error) from None
    return path


def _check_weights(source: Source, path: Path) -> None:
    """Refuse truncated files, and pickles that may run code, without running it."""
    import torch
    from safetensors import safe_open

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on protocols before it refuses them
            torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # damaged pickles raise whatever they happen to spell
        unsafe = isinstance(error, pickle.UnpicklingError) and _is_pickle(path)
        what = f"{source.id!r} cannot be loaded: {path.name} is {'unsafe' if unsafe else 'corrupt'}"
        if unsafe:
            why, fix = "it is a pickle that may run code; it was not run", "ask its author for safetensors"
        else:
            why, fix = f"it is truncated or damaged ({one_line(error)})", "download or save it again"
        raise UnfitError(what, why, fix) from None


def _is_pickle(path: Path) -> bool:
    """Tell a whole pickle of any protocol from a damaged file; it is parsed, not run."""
    if zipfile.is_zipfile(path):
        return True
    try:
        with path.open("rb") as file:
            return all(True for _ in pickletools.genops(file))
    except Exception:  # damaged pickles raise whatever they happen to spell
        return False


# The Hub


def snapshot(repo: str, revision: str | None, patterns: list[str]) -> Path:
    """Download some files of a repository, or find them in the cache: a folder named by the commit."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, library_name="hf_infodist"))
    except errors.HFValidationError:
        raise missing("model", repo) from None
    except (errors.HfHubHTTPError, OSError) as error:
        if told := refused_by_system(error):
            raise told from error
        raise refusal("model", repo, revision, error) or unreachable(repo, "the Hub", error) from None
