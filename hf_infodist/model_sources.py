"""Model name → where it leads: a library's architecture, a folder or a repository, with weights that are safe to read.

Everything that can be known without the weights is checked before any are fetched. No code of a repository is run.
"""

from __future__ import annotations

import json
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from .errors import InfodistError, NotFoundError, UnfitError, UsageError
from .refusals import missing, one_line, refusal, unreachable

DEMO = Path(__file__).parent / "demo"
FORMS = "Use org/name, timm:NAME, torchvision:NAME, a folder such as ./name, random:NAME, demo:cnn or demo:vit."
PROCESSOR_FILES = ["preprocessor_config.json", "processor_config.json"]
SAFE_WEIGHTS = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
PICKLED_WEIGHTS = ["pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"]


@dataclass(frozen=True)
class Source:
    """Where a model name leads."""

    id: str  # the name itself
    library: str = ""  # timm, torchvision or transformers; torch for a plain module
    fresh: bool = False  # random weights are wanted
    model: str = ""  # name of the architecture within its library
    weights: Any = None  # torchvision's entry for the weights
    url: str = ""  # of the weights, unless they are in a folder
    folder: Path | None = None  # in the layout of timm or transformers
    repo: str = ""  # of the Hub, that the folder is a copy of
    revision: str | None = None  # its commit


def locate(name: str, *, has_transform: bool) -> Source:
    """Resolve a name, and check all that can be checked without weights.

    Args:
        name: A name as `load_classifier` takes it.
        has_transform: Whether preprocessing is given, so that the model may lack it.

    Raises:
        UsageError: If the name can mean several things or has no known form.
        NotFoundError: If the name leads nowhere, or to a place that cannot be reached now.
        UnfitError: If it leads to something that is not an image classifier.
    """
    bare = name.removeprefix("random:")
    if bare.startswith("random:"):
        raise UsageError(f"{name!r} is random twice.", "Fresh weights cannot get fresher.", f"Use {bare}.")
    source = _follow(Source(name, fresh=bare != name), bare)
    if source.library == "transformers" and not has_transform:
        _check_processor(source)
    return source


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
            folder = _snapshot(source.repo, source.revision, SAFE_WEIGHTS)
            if pickles and not _weight_files(folder):
                folder = _snapshot(source.repo, source.revision, PICKLED_WEIGHTS)
    files = _weight_files(folder)
    if not pickles and not any(path.suffix == ".safetensors" for path in files):
        raise _only_pickles(source)
    if not files:
        why = "There is no model.safetensors and no pytorch_model.bin; ONNX, TensorFlow and Flax files are not read."
        fix = f"Convert them, choose another repository, or use random:{source.id} for fresh weights."
        raise UnfitError(f"{source.id!r} has no PyTorch weights.", why, fix)
    for path in files:
        _check_weights(source, path)
    return replace(source, folder=folder)


def _only_pickles(source: Source) -> UnfitError:
    why = "Here only safetensors are read: other formats may hold code."
    return UnfitError(f"{source.id!r} has no safetensors.", why, "Ask its author for them, or choose another model.")


def check_classes(id: str, num_classes: int) -> None:
    """Refuse a model with fewer than two classes."""
    if num_classes < 2:
        why = "One class carries no information." if num_classes == 1 else "It only computes features."
        raise UnfitError(f"{id!r} has {num_classes} classes.", why, "Choose a classifier with at least two classes.")


def check_problem(id: str, config: Any) -> None:
    """Refuse a configuration of transformers whose outputs were not trained as one softmax."""
    problem = getattr(config, "problem_type", None)
    if problem in ("multi_label_classification", "regression"):
        why = "Its outputs are not one distribution over classes."
        fix = "Choose a classifier whose classes exclude each other."
        raise UnfitError(f"{id!r} was made for {problem.replace('_', ' ')}.", why, fix)


@contextmanager
def refusing(source: Source, why: str) -> Iterator[None]:
    """Turn whatever a library raises into an UnfitError."""
    try:
        yield
    except InfodistError:
        raise
    except Exception as error:
        fix = "Choose another model, or repair this one."
        raise UnfitError(f"{source.id!r} cannot be used: {why}.", one_line(error), fix) from error


@contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """Keep transformers and the Hub's client from reporting what is checked here anyway; large files may show bars."""
    from huggingface_hub import utils as hub
    from transformers.utils import logging as chatter

    levels = {log: log.get_verbosity() for log in (hub.logging, chatter)}
    hide = not bars and chatter.is_progress_bar_enabled() and not hub.are_progress_bars_disabled()
    for log in levels:
        log.set_verbosity_error()
    if hide:
        chatter.disable_progress_bar()  # and the Hub's
    try:
        yield
    finally:
        for log, level in levels.items():
            log.set_verbosity(level)
        if hide:
            chatter.enable_progress_bar()


# Where a name leads


def _follow(source: Source, name: str) -> Source:
    prefix, colon, rest = name.partition(":")
    if name.startswith((".", "/", "~")) or (name and Path(name).is_dir()):
        return _in_folder(replace(source, folder=Path(name).expanduser()))
    if not colon:
        return _on_hub(source, name)
    if prefix == "demo":
        return _in_folder(replace(source, folder=_demo_folder(rest)))
    if prefix == "timm":
        return _in_timm(replace(source, library="timm", model=rest))
    if prefix == "torchvision":
        return _in_torchvision(replace(source, library="torchvision"), rest)
    near = _near(prefix, ["timm", "torchvision", "random", "demo"], suffix=f":{rest}")
    why = "A name before the colon says which library or collection is meant."
    raise UsageError(f"Unknown prefix in model name {name!r}: {prefix!r}.", why, _did_you_mean(near, FORMS))


def _demo_folder(name: str) -> Path:
    if (DEMO / name / "config.json").is_file():
        return DEMO / name
    names = ", ".join(f"demo:{path.parent.name}" for path in sorted(DEMO.glob("*/config.json")))
    raise NotFoundError(f"There is no demo model {name!r}.", "Only a few tiny models are built in.", f"Use {names}.")


def _in_timm(source: Source) -> Source:
    """Check a timm name; weights that live on the Hub are found like any repository's."""
    import timm

    architecture, _, tag = source.model.partition(".")
    if architecture not in timm.list_models() or (tag and source.model not in timm.list_pretrained()):
        tags = [name for name in timm.list_pretrained() if name.startswith(f"{architecture}.")]
        raise _unknown("timm", source.model, tags or timm.list_models(), "timm.list_models(pretrained=True)")
    config: Any = timm.get_pretrained_cfg(source.model)
    check_classes(source.id, config.num_classes)
    _check_embedding(source.id, config.num_classes)
    if source.fresh:
        return source
    if config.hf_hub_id:
        return _on_hub(source, config.hf_hub_id)
    if not config.url:
        why = "Only its architecture is published."
        fix = f"Use random:timm:{source.model} for fresh weights, or one of timm.list_models(pretrained=True)."
        raise NotFoundError(f"timm has no trained weights for {source.model!r}.", why, fix)
    return replace(source, url=config.url)


def _in_torchvision(source: Source, name: str) -> Source:
    """Check a torchvision name and its weights' name."""
    from torchvision import models

    model, _, chosen = name.partition("@")
    classifiers = models.list_models(module=models)
    if model not in classifiers and model in models.list_models():
        why = "Detection, segmentation, video, optical flow and quantised models do not map an image to logits."
        fix = "Choose a classification model, such as torchvision:resnet18."
        raise UnfitError(f"torchvision's {model!r} is not an image classifier.", why, fix)
    if model not in classifiers:
        raise _unknown("torchvision", model, classifiers, "torchvision.models.list_models()")
    known = models.get_model_weights(model)
    choices = [weights.name for weights in known]
    if chosen and chosen not in [*choices, "DEFAULT"]:
        nearest = (_near(chosen, choices) or choices)[0]
        why, fix = f"It has {', '.join(choices)}.", f"Use torchvision:{model}@{nearest}."
        raise NotFoundError(f"torchvision's {model!r} has no weights {chosen!r}.", why, fix)
    weights = known[chosen or "DEFAULT"]
    return replace(source, model=model, weights=weights, url=weights.url)


def _on_hub(source: Source, name: str) -> Source:
    """Resolve a repository to a commit and fetch its configuration, not its weights."""
    repo, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise _ambiguous(repo)
    with quiet():
        folder = _snapshot(repo, revision or None, ["config.json", *PROCESSOR_FILES])
    return _in_folder(replace(source, repo=repo, revision=folder.name, folder=folder))


def _near(name: str, known: Sequence[str], most: int = 1, *, prefix: str = "", suffix: str = "") -> list[str]:
    return [f"{prefix}{near}{suffix}" for near in get_close_matches(name, known, most)]


def _did_you_mean(names: Sequence[str], otherwise: str) -> str:
    return f"Did you mean {' or '.join(names)}?" if names else otherwise


def _ambiguous(name: str) -> InfodistError:
    """Say what a bare name could mean."""
    import timm
    from torchvision import models

    names = {"timm": timm.list_models(), "torchvision": models.list_models(module=models)}
    meant = [f"{library}:{name}" for library, known in names.items() if name.partition(".")[0] in known]
    if meant:
        why = "Models of one name differ between libraries in weights and preprocessing."
        fix = f"Use {' or '.join(meant)}, or org/name for a repository of the Hub, or ./{name} for a folder."
        return UsageError(f"{name!r} could come from several places.", why, fix)
    near = [near for library, known in names.items() for near in _near(name, known, prefix=f"{library}:")]
    hint = f"{_did_you_mean(near, '')} {FORMS}".strip()
    return NotFoundError(f"There is no model {name!r}.", "It is no folder, and no library is named.", hint)


def _unknown(library: str, name: str, names: Sequence[str], listing: str) -> NotFoundError:
    """Say that a library has no such model, and which names are nearest."""
    spellings = (_near(spelling, names, 3, prefix=f"{library}:") for spelling in (name, name.split(".")[0]))
    fix = _did_you_mean(next(filter(None, spellings), []), f"{listing} lists them all.")
    return NotFoundError(f"{library} has no model {name!r}.", "The name is not in its list of classifiers.", fix)


# Folders in the layouts of timm and transformers


def _in_folder(source: Source) -> Source:
    """Let a folder's config.json decide the library, and check the configuration."""
    config = _read_config(source)
    if "auto_map" in config:
        why = "Its config.json has an auto_map, and code from repositories is never run."
        fix = "Load it yourself and pass the module: load_classifier(module, transform=...)."
        raise UnfitError(f"{source.id!r} needs code from its repository.", why, fix)
    if "model_type" in config:
        return _check_transformers(replace(source, library="transformers"), config)
    if "architecture" in config:
        return _check_timm(replace(source, library="timm"), config)
    why = "Its config.json names neither an architecture (timm) nor a model_type (transformers)."
    fix = "Save it with timm.models.save_for_hf or with save_pretrained of transformers."
    raise UnfitError(f"{source.id!r} is in no known layout.", why, fix)


def _read_config(source: Source) -> dict[str, Any]:
    assert source.folder is not None
    if not source.folder.is_dir() and not source.repo:
        raise NotFoundError(f"There is no folder {str(source.folder)!r}.", "The name is a path.", f"Check it. {FORMS}")
    try:
        config = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        why = "Without it nothing says which architecture the weights belong to; ONNX exports often lack it."
        fix = "Choose a repository or folder that timm or transformers has saved."
        raise UnfitError(f"{source.id!r} has no config.json.", why, fix) from None
    except ValueError as error:
        why = f"It is not JSON: {error}."
        raise UnfitError(f"{source.id!r} has a broken config.json.", why, "Save or download it anew.") from None
    return config if isinstance(config, dict) else {}


def _check_timm(source: Source, config: dict[str, Any]) -> Source:
    import timm

    architecture = config["architecture"]
    if not timm.is_model(architecture):
        near = _near(architecture, timm.list_models())
        what = f"{source.id!r} has the architecture {architecture!r}, which timm {timm.__version__} does not know."
        why = f"The nearest one it knows is {near[0]}." if near else "Nothing it knows has a name like this."
        raise UnfitError(what, why, "Upgrade timm, or correct config.json.")
    settings = {**(config.get("pretrained_cfg") or {}), **config, **(config.get("model_args") or {})}
    if "num_classes" in settings:
        check_classes(source.id, settings["num_classes"])
        if source.repo.startswith("timm/"):
            _check_embedding(source.id, settings["num_classes"])
    return source


def _check_embedding(id: str, num_classes: int) -> None:
    """Refuse those of timm's own models whose outputs are coordinates shared with a text encoder."""
    from timm.data import infer_imagenet_subset

    if num_classes < 10_000 and not infer_imagenet_subset({"num_classes": num_classes}):
        why = f"Its {num_classes} outputs are an embedding of image and text, not classes."
        fix = "Choose weights that were fine-tuned on classes; their tags end in in1k, in12k or in21k."
        raise UnfitError(f"{id!r} is not a classifier.", why, fix)


def _check_transformers(source: Source, config: dict[str, Any]) -> Source:
    """Find the class that makes logits; other classes of a model type leave its head untrained."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as MAPPING

    assert source.folder is not None
    known = MAPPING.get(config["model_type"], ())
    known = (known,) if isinstance(known, str) else tuple(known)
    given = (config.get("architectures") or known[:1] or ["?"])[0]
    if given not in known:
        why = f"Its config.json names {given} of model type {config['model_type']}, which has no trained class head."
        fix = "Choose a repository tagged image-classification, whose architecture ends in ForImageClassification."
        raise UnfitError(f"{source.id!r} is not an image classifier.", why, fix)
    with quiet(), refusing(source, "its config.json does not fit its model type"):
        complete = AutoConfig.from_pretrained(source.folder, trust_remote_code=False)
        check_classes(source.id, complete.num_labels)
        check_problem(source.id, complete)
    return replace(source, model=given)


def _check_processor(source: Source) -> None:
    assert source.folder is not None
    if not any((source.folder / file).is_file() for file in PROCESSOR_FILES):
        why = "Without it nothing says how the model wants its images."
        fix = "Save its image processor beside it, or pass transform=... in Python."
        raise UnfitError(f"{source.id!r} has no preprocessor_config.json.", why, fix)


# Weights


def _weight_files(folder: Path) -> list[Path]:
    """List the weight files that will be read: safetensors where there are any."""
    patterns = (("*.safetensors",), ("*.bin", "*.pth", "*.pt"))
    found = [sorted(path for pattern in group for path in folder.glob(pattern)) for group in patterns]
    return found[0] or found[1]


def _download(source: Source) -> Path:
    """Put a weight file into torch's cache, where its library will look for it."""
    from huggingface_hub import constants

    name = source.url.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    if constants.HF_HUB_OFFLINE:
        raise unreachable(source.id, "the network")
    path.parent.mkdir(parents=True, exist_ok=True)
    sha256_start = re.search(r"-([a-f0-9]{8,})\.", name)
    with refusing(source, "its download is not what was published"):
        try:
            torch.hub.download_url_to_file(source.url, str(path), sha256_start and sha256_start[1])
        except OSError as error:
            raise unreachable(source.id, source.url, error) from None
    return path


def _check_weights(source: Source, path: Path) -> None:
    """Refuse truncated files, and pickles that may run code, without running it."""
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
        what = f"{source.id!r} cannot be loaded: {path.name} is {'unsafe' if unsafe else 'corrupt'}."
        if unsafe:
            why, fix = "It is a pickle that may run code; it was not run.", "Ask its author for safetensors."
        else:
            why, fix = f"It is truncated or damaged ({one_line(error)}).", "Download or save it again."
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


def _snapshot(repo: str, revision: str | None, patterns: list[str]) -> Path:
    """Download some files of a repository, or find them in the cache: a folder named by the commit."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, library_name="hf_infodist"))
    except errors.HFValidationError:
        raise missing("model", repo) from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise refusal("model", repo, revision, error) or unreachable(repo, "the Hub", error) from None
