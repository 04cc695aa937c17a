"""Model name → Classifier: logits, features, preprocessing and labels, alike for timm, transformers and torchvision.

Everything that can be known without the weights is checked before any are fetched. No code of a repository is run.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import logging
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .errors import InfodistError, NotFoundError, UnfitError, UsageError
from .heads import find_heads, replace_heads

logger = logging.getLogger(__name__)

DEMO = Path(__file__).parent / "demo"
FORMS = "Use org/name, timm:NAME, torchvision:NAME, a folder such as ./name, random:NAME, demo:cnn or demo:vit."
CONFIG_FILES = ["config.json", "preprocessor_config.json", "processor_config.json"]
SAFE_WEIGHTS = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
PICKLED_WEIGHTS = ["pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"]


@dataclass(frozen=True)
class Preprocessing:
    """How a classifier wants to see an image.

    Attributes:
        transform: RGB image → normalised pixels `[3, H, W]`, float32.
        mean: Mean of the normalisation, per channel; zeros if there is none, or none known.
        std: Standard deviation of the normalisation; ones likewise.
        settings: JSON description. Two preprocessings with equal settings give equal pixels.
    """

    transform: Callable[[Image.Image], Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    settings: dict[str, Any]


class Network(nn.Module):
    """A module of any library, seen as a function from pixels to logits."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute logits `[N, C]` of pixels `[N, 3, H, W]`."""
        output = self.module(pixel_values=pixels) if hasattr(self.module, "config_class") else self.module(pixels)
        if isinstance(output, Tensor):
            return output
        for name in ("logits", "last_hidden_state"):  # PP-LCNet keeps its logits under the latter
            if isinstance(getattr(output, name, None), Tensor):
                return getattr(output, name)
        return output[0]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained image classifier with everything needed to ask it and to teach it.

    Attributes:
        id: The name it was loaded by.
        library: `timm`, `torchvision`, `transformers` or `torch`.
        revision: Commit of its hub repository, if it has one.
        network: In eval mode, on the CPU, float32.
        num_classes: Number of logits.
        labels: A name per logit.
        preprocessing: How it wants to see an image.
        heads: Names of the layers of `network` that make the logits.
    """

    id: str
    library: str
    revision: str | None
    network: Network
    num_classes: int
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    heads: tuple[str, ...]

    @cached_property
    def weights_hash(self) -> str:
        """Sha256 of everything that decides the logits: weights, buffers, layers and the settings of layers."""
        digest = hashlib.sha256(_architecture(self.network).encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def student(self, num_classes: int, rows: Sequence[int] | None) -> Network:
        """Copy the network for a teacher with other classes; the classifier itself stays as it is.

        Args:
            num_classes: Number of the teacher's classes.
            rows: Row of this head for each of the teacher's classes, from `heads.match_labels`; -1 or None: zeros.

        Returns:
            A float32 copy. Where the rows are those it has, with the very same head.
        """
        network = copy.deepcopy(self.network)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            network.requires_grad_(True)
        if rows is None or tuple(rows) != tuple(range(self.num_classes)) or num_classes != self.num_classes:
            replace_heads(network, self.heads, num_classes, rows)
        return network


def load_classifier(
    name: str | nn.Module | Classifier,
    *,
    transform: Callable[[Image.Image], Tensor] | None = None,
    labels: Sequence[str] | None = None,
    seed: int = 0,
) -> Classifier:
    """Load an image classifier.

    Args:
        name: `org/name[@revision]` on the Hub, `timm:NAME`, `torchvision:NAME[@WEIGHTS]`, a local folder,
            `random:NAME` (same architecture, fresh weights), `demo:cnn`, `demo:vit`, or a loaded module.
        transform: RGB image → pixels `[3, H, W]`. Needed for plain modules; elsewhere instead of the model's own.
        labels: A name per class, instead of the model's own.
        seed: Seed of the fresh weights of `random:NAME`.

    Returns:
        The classifier. A `Classifier` is returned as it is.

    Raises:
        UsageError: If the name can mean several things or has no known form.
        NotFoundError: If the name leads nowhere, or to a place that cannot be reached now.
        UnfitError: If it leads to something that is not a whole, safe image classifier.

    Examples:
        >>> load_classifier("random:timm:test_resnet.r160_in1k").num_classes
        1000
    """
    if isinstance(name, Classifier):
        return name
    if isinstance(name, nn.Module):
        return _finish(_from_module(name), transform, labels)
    source = _locate(name, has_transform=transform is not None)
    if source.folder is not None and not source.fresh:
        source = replace(source, folder=_with_weights(source))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = _BUILDERS[source.library](source)
        return _finish(replace(source, module=module), transform, labels)


def check_name(name: str) -> None:
    """Raise what `load_classifier` would raise about a name before it fetches any weights."""
    _locate(name, has_transform=True)


# Where a name leads


@dataclass(frozen=True)
class _Source:
    """Where a name leads, before and after its module is built."""

    id: str
    library: str
    fresh: bool = False  # random weights
    model: str = ""  # name of the architecture within its library
    weights: str = ""  # of torchvision
    folder: Path | None = None
    repo: str = ""
    revision: str | None = None
    module: Any = None


def _locate(name: str, *, has_transform: bool, fresh: bool = False, id: str | None = None) -> _Source:
    """Resolve a name, and check all that can be checked without weights."""
    id = id or name
    prefix, colon, rest = name.partition(":")
    if name.startswith((".", "/", "~")) or (name and Path(name).is_dir()):
        return _in_folder(_Source(id, "", fresh, folder=Path(name).expanduser()), has_transform)
    if not colon:
        return _on_hub(_Source(id, "", fresh), name, has_transform)
    if prefix == "random":
        if rest.startswith("random:"):
            raise UsageError(f"{id!r} is random twice.", "Fresh weights cannot get fresher.", f"Use {rest}.")
        return _locate(rest, has_transform=has_transform, fresh=True, id=id)
    if prefix == "demo":
        return _in_folder(_Source(id, "", fresh, folder=_demo_folder(rest)), has_transform)
    if prefix == "timm":
        return _in_timm(_Source(id, "timm", fresh, rest), has_transform)
    if prefix == "torchvision":
        return _in_torchvision(_Source(id, "torchvision", fresh, *(rest.split("@", 1) if "@" in rest else (rest,))))
    near = difflib.get_close_matches(prefix, ["timm", "torchvision", "random", "demo"], 1)
    raise UsageError(
        f"Unknown prefix in model name {name!r}: {prefix!r}.",
        "A name before the colon says which library or collection is meant.",
        f"Did you mean {near[0]}:{rest}?" if near else FORMS,
    )


def _demo_folder(name: str) -> Path:
    if (DEMO / name / "config.json").is_file():
        return DEMO / name
    names = ", ".join(f"demo:{path.parent.name}" for path in sorted(DEMO.glob("*/config.json")))
    raise NotFoundError(f"There is no demo model {name!r}.", "Only a few tiny models are built in.", f"Use {names}.")


def _in_timm(source: _Source, has_transform: bool) -> _Source:
    """Check a timm name; weights that live on the Hub are found like any repository's."""
    import timm

    architecture, _, tag = source.model.partition(".")
    if architecture not in timm.list_models() or (tag and source.model not in timm.list_pretrained()):
        tags = [name for name in timm.list_pretrained() if name.startswith(f"{architecture}.")]
        names = tags or timm.list_models()
        raise _unknown("timm", source.model, names, "timm.list_models(pretrained=True) lists them all.")
    config: Any = timm.get_pretrained_cfg(source.model)
    _check_classes(source.id, config.num_classes)
    _check_embedding(source.id, config.num_classes)
    if source.fresh:
        return source
    if config.hf_hub_id:
        return _on_hub(source, config.hf_hub_id, has_transform)
    if not config.url:
        raise NotFoundError(
            f"timm has no trained weights for {source.model!r}.",
            "Only its architecture is published.",
            f"Use random:timm:{source.model} for fresh weights, or one of timm.list_models(pretrained=True).",
        )
    return source


def _in_torchvision(source: _Source) -> _Source:
    """Check a torchvision name and its weights' name."""
    from torchvision import models

    names = models.list_models(module=models)  # classification only
    if source.model not in names:
        elsewhere = source.model in models.list_models()
        if elsewhere:
            raise UnfitError(
                f"torchvision's {source.model!r} is not an image classifier.",
                "Detection, segmentation, video, optical flow and quantised models do not map an image to logits.",
                "Choose a classification model, such as torchvision:resnet18.",
            )
        raise _unknown("torchvision", source.model, names, "torchvision.models.list_models() lists them all.")
    choices = [weights.name for weights in models.get_model_weights(source.model)]
    if source.weights and source.weights not in [*choices, "DEFAULT"]:
        near = difflib.get_close_matches(source.weights, choices, 1) or choices
        raise NotFoundError(
            f"torchvision's {source.model!r} has no weights {source.weights!r}.",
            f"It has {', '.join(choices)}.",
            f"Use torchvision:{source.model}@{near[0]}.",
        )
    return source


def _on_hub(source: _Source, name: str, has_transform: bool) -> _Source:
    """Resolve a repository to a commit and fetch its configuration, not its weights."""
    repo, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise _ambiguous(repo)
    with _quiet_hub(bars=False):
        folder = _snapshot(repo, revision or None, CONFIG_FILES)
    return _in_folder(replace(source, repo=repo, revision=folder.name, folder=folder), has_transform)


def _ambiguous(name: str) -> InfodistError:
    """Say what a bare name could mean."""
    import timm
    from torchvision import models

    names = {"timm": timm.list_models(), "torchvision": models.list_models(module=models)}
    base = name.partition(".")[0]
    meant = [f"{library}:{name}" for library, known in names.items() if base in known]
    if meant:
        return UsageError(
            f"{name!r} could come from several places.",
            "Models of one name differ between libraries in weights and preprocessing.",
            f"Use {' or '.join(meant)}, or org/name for a repository of the Hub, or ./{name} for a folder.",
        )
    near = [f"{lib}:{n}" for lib, known in names.items() for n in difflib.get_close_matches(name, known, 1)]
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return NotFoundError(f"There is no model {name!r}.", "It is no folder, and no library is named.", hint + FORMS)


def _unknown(library: str, name: str, names: Sequence[str], otherwise: str) -> NotFoundError:
    """Say that a library has no such model, and which name is nearest."""
    near = difflib.get_close_matches(name, names, 3) or difflib.get_close_matches(name.split(".")[0], names, 3)
    return NotFoundError(
        f"{library} has no model {name!r}.",
        "The name is not in its list of classifiers.",
        f"Did you mean {', '.join(f'{library}:{n}' for n in near)}?" if near else otherwise,
    )


# Folders in the layouts of timm and transformers


def _in_folder(source: _Source, has_transform: bool) -> _Source:
    """Let a folder's config.json decide the library, and check the configuration."""
    config = _config(source)
    if "auto_map" in config:
        raise UnfitError(
            f"{source.id!r} needs code from its repository.",
            "Its config.json has an auto_map, and code from repositories is never run.",
            "Load it yourself and pass the module: load_classifier(module, transform=...).",
        )
    if "model_type" in config:
        return _check_transformers(replace(source, library="transformers"), config, has_transform)
    if "architecture" in config:
        return _check_timm(replace(source, library="timm"), config)
    raise UnfitError(
        f"{source.id!r} is in no known layout.",
        "Its config.json names neither an architecture (timm) nor a model_type (transformers).",
        "Save it with timm.models.save_for_hf or with save_pretrained of transformers.",
    )


def _config(source: _Source) -> dict[str, Any]:
    """Read a folder's config.json."""
    assert source.folder is not None
    if not source.folder.is_dir() and not source.repo:
        raise NotFoundError(f"There is no folder {str(source.folder)!r}.", "The name is a path.", f"Check it. {FORMS}")
    path = source.folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnfitError(
            f"{source.id!r} has no config.json.",
            "Without it nothing says which architecture the weights belong to; ONNX exports often lack it.",
            "Choose a repository or folder that timm or transformers has saved.",
        ) from None
    except ValueError as error:
        raise UnfitError(
            f"{source.id!r} has a broken config.json.", f"It is not JSON: {error}.", "Save or download it anew."
        ) from None
    return config if isinstance(config, dict) else {}


def _check_classes(id: str, num_classes: int) -> None:
    if num_classes >= 2:
        return
    why = "One class carries no information." if num_classes == 1 else "It only computes features."
    raise UnfitError(f"{id!r} has {num_classes} classes.", why, "Choose a classifier with at least two classes.")


def _check_embedding(id: str, num_classes: int) -> None:
    """Refuse those of timm's own models whose outputs are coordinates shared with a text encoder."""
    from timm.data import infer_imagenet_subset

    if num_classes < 10_000 and not infer_imagenet_subset({"num_classes": num_classes}):
        raise UnfitError(
            f"{id!r} is not a classifier.",
            f"Its {num_classes} outputs are an embedding of image and text, not classes.",
            "Choose weights that were fine-tuned on classes; their tags end in in1k, in12k or in21k.",
        )


def _check_timm(source: _Source, config: dict[str, Any]) -> _Source:
    import timm

    architecture = config["architecture"]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), 1)
        raise UnfitError(
            f"{source.id!r} has the architecture {architecture!r}, which timm {timm.__version__} does not know.",
            f"The nearest one it knows is {near[0]}." if near else "Nothing it knows has a name like this.",
            "Upgrade timm, or correct config.json.",
        )
    settings = {**(config.get("pretrained_cfg") or {}), **config, **(config.get("model_args") or {})}
    if "num_classes" in settings:
        _check_classes(source.id, settings["num_classes"])
        if source.repo.startswith("timm/"):
            _check_embedding(source.id, settings["num_classes"])
    return source


def _check_transformers(source: _Source, config: dict[str, Any], has_transform: bool) -> _Source:
    """Find the class that makes logits; other classes of a model type leave its head untrained."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as MAPPING

    assert source.folder is not None
    known = MAPPING.get(config["model_type"], ())
    known = (known,) if isinstance(known, str) else tuple(known)
    given = (config.get("architectures") or known[:1] or ["?"])[0]
    if given not in known:
        raise UnfitError(
            f"{source.id!r} is not an image classifier.",
            f"Its config.json names {given} of model type {config['model_type']}, which has no trained class head.",
            "Choose a repository tagged image-classification, whose architecture ends in ForImageClassification.",
        )
    with _quiet(), _refusing(source, "its config.json does not fit its model type"):
        _check_classes(source.id, AutoConfig.from_pretrained(source.folder, trust_remote_code=False).num_labels)
    if not has_transform and not any((source.folder / file).is_file() for file in CONFIG_FILES[1:]):
        raise UnfitError(
            f"{source.id!r} has no preprocessor_config.json.",
            "Without it nothing says how the model wants its images.",
            "Save its image processor beside it, or pass transform=... in Python.",
        )
    return replace(source, model=given)


def _with_weights(source: _Source) -> Path:
    """Fetch the weights of a repository, and make sure that a folder's weights are whole and harmless."""
    assert source.folder is not None
    folder = source.folder
    if source.repo:
        with _quiet_hub(bars=True):
            folder = _snapshot(source.repo, source.revision, SAFE_WEIGHTS)
            if not _weight_files(folder):
                folder = _snapshot(source.repo, source.revision, PICKLED_WEIGHTS)
    files = _weight_files(folder)
    if not files:
        raise UnfitError(
            f"{source.id!r} has no PyTorch weights.",
            "There is no model.safetensors and no pytorch_model.bin; ONNX, TensorFlow and Flax files are not read.",
            f"Convert them, choose another repository, or use random:{source.id} for fresh weights.",
        )
    for path in files:
        _check_weights(source, path)
    return folder


def _weight_files(folder: Path) -> list[Path]:
    """List the weight files that will be read: safetensors where there are any."""
    patterns = (("*.safetensors",), ("*.bin", "*.pth", "*.pt"))
    found = [sorted(path for pattern in group for path in folder.glob(pattern)) for group in patterns]
    return found[0] or found[1]


def _check_weights(source: _Source, path: Path) -> None:
    """Refuse truncated files, and pickles that would run code, without running it."""
    from safetensors import safe_open

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                return
        torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # damaged pickles raise whatever they happen to spell
        unsafe = isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error)
        raise UnfitError(
            f"{source.id!r} cannot be loaded: {path.name} is {'unsafe' if unsafe else 'corrupt'}.",
            "It is a pickle that would run code; it was not run."
            if unsafe
            else f"It is truncated or damaged ({_one_line(error)}).",
            "Ask its author for safetensors." if unsafe else "Download or save it again.",
        ) from None


@contextmanager
def _refusing(source: _Source, why: str) -> Iterator[None]:
    """Turn whatever a library raises into an UnfitError."""
    try:
        yield
    except InfodistError:
        raise
    except Exception as error:
        raise UnfitError(
            f"{source.id!r} cannot be used: {why}.", _one_line(error), "Choose another model, or repair this one."
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# The Hub


def _snapshot(repo: str, revision: str | None, patterns: list[str]) -> Path:
    """Download some files of a repository, or find them in the cache: a folder named by the commit."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, library_name="hf_infodist"))
    except errors.GatedRepoError:
        raise NotFoundError(
            f"{repo!r} is gated on the Hub.",
            "Its owner asks for an agreement before files may be read.",
            f"Accept it on the page of {repo}, then run: hf auth login",
        ) from None
    except errors.RevisionNotFoundError:
        raise NotFoundError(
            f"{repo!r} has no revision {revision!r}.",
            "That is no branch, tag or commit of the repository.",
            f"Use {repo} for its main branch.",
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        near = _nearest_repositories(repo)
        raise NotFoundError(
            f"There is no model {repo!r} on the Hub.",
            "The Hub was asked and does not know it, or it is private and you are not logged in.",
            f"Did you mean {', '.join(near)}?" if near else "Check the name; if it is private, run: hf auth login",
        ) from None
    except (errors.EntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise _unreachable(repo, "the Hub", error.__cause__ or error) from None


@contextmanager
def _quiet_hub(*, bars: bool) -> Iterator[None]:
    """Keep the Hub's client from reporting what is checked here anyway; progress bars suit large files only."""
    from huggingface_hub import utils

    verbosity, hide = utils.logging.get_verbosity(), not bars and not utils.are_progress_bars_disabled()
    utils.logging.set_verbosity_error()
    if hide:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(verbosity)
        if hide:
            utils.enable_progress_bars()


def _unreachable(name: str, place: str, error: BaseException | None = None) -> NotFoundError:
    """Say that a name may be right, but cannot be reached now."""
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    return NotFoundError(
        f"{name!r} is not in the cache, and {place} {'is switched off' if offline else 'cannot be reached'}.",
        "HF_HUB_OFFLINE is set." if offline or error is None else f"This does not mean a typo: {_one_line(error)}.",
        "Unset HF_HUB_OFFLINE, or use a cached or local model, such as demo:cnn."
        if offline
        else "Check the connection and try again, or use a cached or local model, such as demo:cnn.",
    )


def _nearest_repositories(repo: str) -> list[str]:
    """Ask the Hub for image classifiers of a similar name."""
    from huggingface_hub import HfApi

    try:
        found = HfApi().list_models(search=repo.split("/")[-1], filter="image-classification", limit=20)
        ids = [model.id for model in found]
    except Exception:  # a suggestion must not hide the error that it belongs to
        return []
    return difflib.get_close_matches(repo, ids, 3, cutoff=0.3)


# Building modules


def _build_timm(source: _Source) -> nn.Module:
    import timm

    config: Any = None if source.folder else timm.get_pretrained_cfg(source.model)
    if config and not source.fresh:
        _fetch(source, config.url)
    with _refusing(source, "its weights do not fit its architecture"):
        name = f"local-dir:{source.folder}" if source.folder else source.model
        module: Any = timm.create_model(name, pretrained=not source.fresh)
    built, described = module.num_classes, module.pretrained_cfg["num_classes"]
    if built != described:
        raise UnfitError(
            f"{source.id!r} contradicts itself: it has {built} or {described} classes.",
            "num_classes and model_args in its config.json differ, so its head would stay untrained.",
            "Correct config.json.",
        )
    return module


def _build_transformers(source: _Source) -> nn.Module:
    import transformers

    assert source.folder is not None
    cls = getattr(transformers, source.model)
    if source.fresh:
        with _quiet(), _refusing(source, "its configuration cannot be built"):
            return cls(transformers.AutoConfig.from_pretrained(source.folder, trust_remote_code=False))
    options = {"dtype": torch.float32, "output_loading_info": True, "local_files_only": True}
    with _quiet(), _refusing(source, "its weights do not fit its architecture"):
        module, info = cls.from_pretrained(source.folder, **options)
    keys = {*map(str, info["missing_keys"]), *map(str, info["mismatched_keys"])}
    untrained = sorted(key for key in keys if not key.endswith("num_batches_tracked"))  # a counter says nothing
    if untrained:
        raise UnfitError(
            f"{source.id!r} is incomplete: {len(untrained)} of its weights are missing.",
            f"{', '.join(untrained[:3])} would be random; a backbone without its head is not a classifier.",
            f"Choose a fine-tuned checkpoint, or random:{source.id} if random weights are meant.",
        )
    return module


def _build_torchvision(source: _Source) -> nn.Module:
    from torchvision import models

    weights = _torchvision_weights(source)
    if source.fresh:
        options: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
        if source.model.startswith("vit_"):
            options |= {"image_size": weights.meta["min_size"][0]}
        if source.model in ("inception_v3", "googlenet"):
            options |= {"transform_input": True, "init_weights": True}
        module = models.get_model(source.model, **options)
    else:
        _fetch(source, weights.url)
        with _refusing(source, "its weights do not fit its architecture"):
            module = models.get_model(source.model, weights=weights, progress=False)
    for auxiliary in {"aux1", "aux2", "AuxLogits"} & set(module._modules):  # heads used in training only
        setattr(module, auxiliary, None)
        module.aux_logits = False
    return module


def _torchvision_weights(source: _Source) -> Any:
    from torchvision import models

    return models.get_model_weights(source.model)[source.weights or "DEFAULT"]


def _fetch(source: _Source, url: str) -> None:
    """Put a weight file into torch's cache, and make sure that it is whole and harmless."""
    from huggingface_hub import constants

    name = url.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        if constants.HF_HUB_OFFLINE:
            raise _unreachable(source.id, "the network")
        path.parent.mkdir(parents=True, exist_ok=True)
        sha256_start = re.search(r"-([a-f0-9]{8,})\.", name)
        with _refusing(source, "its download is not what was published"):
            try:
                torch.hub.download_url_to_file(url, str(path), sha256_start and sha256_start[1])
            except OSError as error:
                raise _unreachable(source.id, url, error) from None
    _check_weights(source, path)


_BUILDERS: dict[str, Callable[[_Source], nn.Module]] = {
    "timm": _build_timm,
    "transformers": _build_transformers,
    "torchvision": _build_torchvision,
}


def _from_module(module: nn.Module) -> _Source:
    """Recognise a loaded module's library; it is copied, so that the caller's own stays as it is."""
    is_timm = isinstance(getattr(module, "pretrained_cfg", None), dict)
    library = "timm" if is_timm else "transformers" if hasattr(module, "config_class") else "torch"
    return _Source(type(module).__name__, library, module=copy.deepcopy(module).cpu())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what is checked here anyway."""
    from transformers.utils import logging as chatter

    verbosity, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(verbosity)
        if bars:
            chatter.enable_progress_bar()


# From a module to a classifier


def _finish(source: _Source, transform: Any, labels: Sequence[str] | None) -> Classifier:
    """Ask a module about one image, and describe what it turns out to be."""
    network = Network(source.module).eval().float()
    preprocessing = _preprocessing(source, transform)
    example = _example(source, preprocessing)
    num_classes = _ask(source, network, example)
    if labels is not None and len(labels) != num_classes:
        raise UsageError(
            f"{len(labels)} labels were given for {source.id!r}.",
            f"It has {num_classes} classes.",
            "Give one label per class, in the order of the logits.",
        )
    names = tuple(labels) if labels is not None else _labels(source.module, source, num_classes)
    heads = find_heads(network, example, num_classes)
    return Classifier(source.id, source.library, source.revision, network, num_classes, names, preprocessing, heads)


def _example(source: _Source, preprocessing: Preprocessing) -> Tensor:
    """Preprocess one fixed image of noise, twice: `[2, 3, H, W]`."""
    with _refusing(source, "its preprocessing fails"):
        pixels = preprocessing.transform(_noise())
    if not isinstance(pixels, Tensor) or pixels.ndim != 3 or len(pixels) != 3:
        shape = list(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
        raise UnfitError(
            f"{source.id!r} does not take RGB images.",
            f"Its preprocessing makes {shape} of an image, not a tensor [3, height, width].",
            "Choose a model for colour images, or another transform.",
        )
    return torch.stack([pixels, pixels]).float()


def _ask(source: _Source, network: Network, example: Tensor) -> int:
    """Count the classes of a network that gives sound logits for an image."""
    with torch.no_grad(), _refusing(source, "it cannot take the images that its preprocessing makes"):
        logits = network(example)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(example):
        raise UnfitError(
            f"{source.id!r} is not an image classifier.",
            f"For {len(example)} images it returns {list(getattr(logits, 'shape', []))}, not [images, classes].",
            "Choose a model that returns one vector of logits per image.",
        )
    _check_classes(source.id, logits.shape[1])
    if not logits.isfinite().all():
        raise UnfitError(
            f"{source.id!r} gives logits that are not finite.",
            "NaN or infinity has no probability.",
            "Check its weights; half-precision overflow during training is a common cause.",
        )
    return logits.shape[1]


def _noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))


def _labels(module: Any, source: _Source, num_classes: int) -> tuple[str, ...]:
    """Name the classes as the library does; `LABEL_0`, `LABEL_1`, … where it does not."""
    if source.library == "torchvision":
        names: dict[int, str] = dict(enumerate(_torchvision_weights(source).meta["categories"]))
    elif source.library == "transformers":
        names = {int(index): str(name) for index, name in module.config.id2label.items()}
    else:
        names = _timm_labels(getattr(module, "pretrained_cfg", {}), num_classes)
    return tuple(names.get(index, f"LABEL_{index}") for index in range(num_classes))


def _timm_labels(config: dict[str, Any], num_classes: int) -> dict[int, str]:
    """Read label names of a timm configuration, in words rather than as WordNet synsets."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    given = config.get("label_names")
    if given:
        described = config.get("label_descriptions") or {}
        pairs = given.items() if isinstance(given, dict) else enumerate(given)
        return {int(index): str(described.get(name, name)) for index, name in pairs}
    subset = infer_imagenet_subset({"num_classes": num_classes}) if config else None
    return dict(enumerate(ImageNetInfo(subset).label_descriptions())) if subset else {}


# Preprocessing


@dataclass(frozen=True)
class _Processor:
    """An image processor of transformers as a function from an image to pixels."""

    processor: Any

    def __call__(self, image: Image.Image) -> Tensor:
        return self.processor(image, return_tensors="pt")["pixel_values"][0]


def _preprocessing(source: _Source, transform: Any) -> Preprocessing:
    """Describe the preprocessing that was given, or else the model's own."""
    if transform is not None and callable(getattr(transform, "preprocess", None)):
        return _of_processor(transform)
    if transform is not None:
        return _of_transform(transform)
    if source.library == "timm":
        return _of_timm(source.module)
    if source.library == "torchvision":
        return _of_torchvision(_torchvision_weights(source).transforms())
    if source.folder is not None:
        return _of_processor(_read_processor(source))
    raise UsageError(
        f"The module {source.id} comes without preprocessing.",
        "Nothing in it says how images are resized and normalised.",
        "Pass transform=..., a function from an RGB image to a tensor [3, height, width], or an image processor.",
    )


def _read_processor(source: _Source) -> Any:
    from transformers import AutoImageProcessor

    with _quiet(), _refusing(source, "its image processor cannot be read"):
        return AutoImageProcessor.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)


def _of_timm(module: nn.Module) -> Preprocessing:
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(module)
    settings = _json({"library": "timm", **config})
    transform = create_transform(**config, is_training=False)
    return Preprocessing(transform, _three(config["mean"]), _three(config["std"]), settings)


def _of_torchvision(transform: Any) -> Preprocessing:
    own = {key: value for key, value in vars(transform).items() if not key.startswith("_") and key != "training"}
    settings = _json({"library": "torchvision", **own})
    return Preprocessing(transform, _three(transform.mean), _three(transform.std), settings)


def _of_processor(processor: Any) -> Preprocessing:
    normalises = getattr(processor, "do_normalize", False)
    mean, std = (processor.image_mean, processor.image_std) if normalises else (0.0, 1.0)
    settings = _json({"library": "transformers", "class": type(processor).__name__, **processor.to_dict()})
    return Preprocessing(_Processor(processor), _three(mean), _three(std), settings)


def _of_transform(transform: Callable[[Image.Image], Tensor]) -> Preprocessing:
    """Describe a function by its name and by what it does to a fixed image, for code has no other identity."""
    last = getattr(transform, "transforms", [transform])[-1]
    mean, std = getattr(last, "mean", 0.0), getattr(last, "std", 1.0)
    settings = {"library": "torch", "transform": _without_addresses(repr(transform))}
    try:
        pixels = torch.as_tensor(transform(_noise()))
        settings["sha256_of_example"] = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    except Exception as error:  # told with the model's name when the example is made
        logger.debug("transform fails on the example image: %s", error)
    return Preprocessing(transform, _three(mean), _three(std), settings)


def _three(value: Any) -> tuple[float, float, float]:
    """Read a number per channel from a number, a sequence or a tensor."""
    red, green, blue = np.broadcast_to(np.asarray(value, dtype=float), 3).tolist()
    return red, green, blue


def _json(settings: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(settings, default=str, sort_keys=True))


def _architecture(network: nn.Module) -> str:
    """Write down layers and their plain settings: numbers of attention heads and the like are in no weight."""
    kinds, hidden = (bool, int, float, str, tuple), ("training", "name_or_path")
    settings = {
        name: {k: v for k, v in vars(m).items() if isinstance(v, kinds) and k[0] != "_" and k not in hidden}
        for name, m in network.named_modules()
    }
    return _without_addresses(f"{network}\n{settings}")


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)
