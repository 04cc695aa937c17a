"""The metrics of `evaluate`: the information distance, and what labels cost when they are learnt from a checkpoint.

The loader of `evaluate` finds both through ``metrics/infodist/infodist.py``: the second is configuration ``labels``.
"""

import functools
import os
import statistics
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Unpack

import datasets
import evaluate

from hf_infodist.distances.distance import information_distance
from hf_infodist.distances.transfer import rank_checkpoints
from hf_infodist.errors import UsageError
from hf_infodist.images.request import DEFAULT_IMAGES, Sample, SampleOptions
from hf_infodist.images.sample import load_images, load_labelled_images
from hf_infodist.models.load import check_name
from hf_infodist.protocol import LABEL_PROTOCOLS, CodingProtocol, resolve_protocol

LABELS = "labels"
"""The configuration that prices the labels of a dataset."""

_FIGURES = ("nats", "stderr_nats", "tail_nats", "nats_per_label", "saved_nats_per_label", "accuracy", "log_loss")

_DESCRIPTION = """
How much information turns one image classifier into another. Each prediction is compared with the reference at the
same place; both are names of models, of any architecture and any label space. The distance is the larger of two
codelengths: what it costs, in nats, to teach a copy of one model the outputs of the other over k images. 0 means the
same function on these images.
"""

_MODELS = """
Args:
    predictions (list of str): Names of models: `org/name[@revision]`, `timm:NAME`, `torchvision:NAME[@WEIGHTS]`, a
        folder, `random:` before any of these, `demo:cnn` or `demo:vit`."""

_IMAGES = """
    images (str, datasets.Dataset or list of PIL images): The images; a name is a dataset of the Hub, a folder, a
        parquet file, or `digits`.
    k (int): How many images; all, at most 2000, if None.
    seed (int): Order of the images, and every draw of the protocol; the `seed` of `evaluate.load`, or 0, if None.
    config (str): Configuration of the dataset.
    split (str): Split of the dataset.
    column (str): Column of the dataset that holds images.
    streaming (bool): Read the dataset as a stream.
    protocol (str): How students learn, instead of """

_INPUTS = f"""{_MODELS}
    references (list of str): As many names of models.{_IMAGES}the configuration that the metric was loaded with.

Returns:
    infodist (list of float): Distance of each pair in nats, the larger of its two codelengths.
    prediction_given_reference (list of float): Codelength of each prediction for somebody who has its reference.
    reference_given_prediction (list of float): Codelength of each reference for somebody who has its prediction.
    mean_infodist (float): Mean of `infodist`.

Example:
    >>> metric = evaluate.load("metrics/infodist")
    >>> results = metric.compute(predictions=["demo:cnn"], references=["demo:vit"], images="digits", k=64)
"""

_LABELS_DESCRIPTION = """
What the labels of a dataset cost, in nats, when they are learnt from an image model: each label is priced before it is
learnt from. Predictions are names of models, with or without a head; less is a better start for these labels.
"""

_LABELS_INPUTS = f"""{_MODELS}
    label (str): Column of the classes; by default that of class labels, or `label`.{_IMAGES}`standard`.

Returns:
    nats (list of float): What all labels cost from each model.
    stderr_nats (list of float): Standard errors of these over the draw of the images.
    tail_nats (list of float): What the second half of the labels costs, once the first half is learnt.
    nats_per_label (list of float): `nats` over `k`.
    saved_nats_per_label (list of float): How much less a label costs than by class frequencies alone; more is better.
    accuracy (list of float): Share of the last quarter of the labels that was the class found likeliest.
    log_loss (list of float): Mean price of these labels, in nats.

Example:
    >>> metric = evaluate.load("metrics/infodist", "labels")
    >>> results = metric.compute(predictions=["demo:cnn", "demo:vit"], images="digits", k=64)
"""

_CITATION = """
@unpublished{infodist,
    title = {Information Distance for Neural Network Functions},
    author = {Anonymous},
    note = {Under review}
}
"""


class Infodist(evaluate.Metric):
    """d_p(A, B) = max(L'(A|B), L'(B|A)), equation (7), of pairs of model names; its configurations are protocols.

    One configuration more, ``labels``, makes a `LabelCodelength`.
    """

    def __new__(cls, config_name: str | None = None, *_: Any, **__: Any) -> "Infodist":
        """Make a metric of the kind that the configuration names; `evaluate` looks for one class alone."""
        return super().__new__(LabelCodelength if config_name == LABELS else cls)

    def __init__(self, config_name: str | None = None, seed: int | None = None, num_process: int = 1, **options: Any):
        if num_process > 1:
            what, why = f"num_process is {num_process}", "evaluate would let the first process compute, and no other"
            raise UsageError(what, why, "load the metric without num_process and process_id in every process")
        super().__init__(config_name or "standard", seed=seed or 0, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process makes the same metric.

        Raises:
            UsageError: If pairs have been added to this one: they would be lost.
        """
        if self.writer is not None:
            what, why = "a metric that pairs were added to cannot be copied", "its copy would have none of them"
            raise UsageError(what, why, "call compute first, or add them to the copy")
        options = {"keep_in_memory": self.keep_in_memory, "cache_dir": self._data_dir_root}
        return functools.partial(type(self), self.config_name, self.seed, **options), ()

    def _info(self) -> evaluate.MetricInfo:
        resolve_protocol(self.config_name)
        return _about(_DESCRIPTION, _INPUTS, "predictions", "references")

    def add(self, *, prediction: Any = None, reference: Any = None) -> None:
        """Add one pair of models, to be compared by `compute`.

        Raises:
            UsageError: If one is missing, or is not a name.
        """
        (prediction,) = _names("prediction", None if prediction is None else [prediction])
        (reference,) = _names("reference", None if reference is None else [reference])
        super().add(prediction=prediction, reference=reference)

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Add pairs of models, to be compared by `compute`.

        Raises:
            UsageError: If they are not two lists of names, equally long.
        """
        predictions, references = _names("predictions", predictions), _names("references", references)
        if len(predictions) != len(references):
            raise UsageError(
                f"{len(predictions)} predictions cannot be compared with {len(references)} references",
                "each prediction is compared with the reference at the same place",
                "pass two lists of equal length, and a model more than once where it has several partners",
            )
        super().add_batch(predictions=predictions, references=references)

    def compute(
        self,
        *,
        predictions: Any = None,
        references: Any = None,
        images: Any = DEFAULT_IMAGES,
        protocol: str | CodingProtocol | None = None,
        **sample: Unpack[SampleOptions],
    ) -> dict[str, Any] | None:
        """Compare each prediction with its reference.

        Raises:
            UsageError: If models are missing, or a setting cannot be meant.
            NotFoundError: If a name leads nowhere.
            UnfitError: If models and images do not fit one another.
            ResourceError: If memory runs out.
        """
        wanted = self._sample(images, sample)
        settings = resolve_protocol(protocol or self.config_name, wanted.seed)
        if predictions is None and references is None and self.writer is None:
            raise _no_models()
        options = {"sample": wanted, "protocol": settings}
        return super().compute(predictions=predictions, references=references, **options)

    def _sample(self, images: Any, options: SampleOptions) -> Sample:
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        return replace(images if isinstance(images, Sample) else Sample(images, seed=self.seed), **given)

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        sample: Sample,
        protocol: CodingProtocol,
    ) -> dict[str, Any]:
        if not predictions:
            raise _no_models()
        for name in (*predictions, *references):
            check_name(name)
        images = load_images(sample)
        pairs = zip(predictions, references, strict=True)
        results = [information_distance(*pair, images, protocol=protocol) for pair in pairs]
        distances = [result.nats for result in results]
        return {
            "infodist": distances,
            "prediction_given_reference": [result.a_given_b.nats for result in results],
            "reference_given_prediction": [result.b_given_a.nats for result in results],
            "mean_infodist": statistics.fmean(distances),
        }


class LabelCodelength(Infodist):
    """Σ -log p(y_i | x_i, what came before), equation (2), of the labels of a dataset, given each of some models."""

    def _info(self) -> evaluate.MetricInfo:
        return _about(_LABELS_DESCRIPTION, _LABELS_INPUTS, "predictions")

    def add(self, *, prediction: Any = None, reference: Any = None) -> None:
        """Add one model, given which the labels are to be priced by `compute`.

        Raises:
            UsageError: If it is missing or is not a name, or a reference is given.
        """
        self.add_batch(predictions=None if prediction is None else [prediction], references=reference)

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Add models, given which the labels are to be priced by `compute`.

        Raises:
            UsageError: If they are not a list of names, or references are given.
        """
        _check_no(references)
        if predictions is None:
            raise _no_models()
        evaluate.Metric.add_batch(self, predictions=_names("predictions", predictions))

    def compute(
        self,
        *,
        predictions: Any = None,
        references: Any = None,
        images: Any = DEFAULT_IMAGES,
        label: str | None = None,
        protocol: str | CodingProtocol | None = None,
        **sample: Unpack[SampleOptions],
    ) -> dict[str, Any] | None:
        """Price the labels given each model.

        Raises:
            UsageError: If models are missing, references are given, or a setting cannot be meant.
            NotFoundError: If a name leads nowhere.
            UnfitError: If labels or a model cannot be used.
            ResourceError: If memory runs out.
        """
        _check_no(references)
        wanted = self._sample(images, sample)
        settings = resolve_protocol(protocol or "standard", wanted.seed, presets=LABEL_PROTOCOLS)
        if predictions is None and self.writer is None:
            raise _no_models()
        options = {"sample": wanted, "protocol": settings, "label": label}
        return evaluate.Metric.compute(self, predictions=predictions, **options)

    def _compute(  # type: ignore[override]
        self, predictions: list[str], sample: Sample, protocol: CodingProtocol, label: str | None
    ) -> dict[str, Any]:
        if not predictions:
            raise _no_models()
        for name in predictions:
            check_name(name, headless=True)
        images = load_labelled_images(sample, label)
        rows = [rank_checkpoints([name], images, protocol=protocol).to_dict()["models"][0] for name in predictions]
        return {figure: [row[figure] for row in rows] for figure in _FIGURES}


def _about(description: str, inputs: str, *columns: str) -> evaluate.MetricInfo:
    features = datasets.Features({name: datasets.Value("string") for name in columns})
    described = {"description": description, "inputs_description": inputs, "citation": _CITATION}
    return evaluate.MetricInfo(**described, features=features, license="Apache-2.0")


def _check_no(references: Any) -> None:
    if references is not None:
        what, why = "references are given", "labels are priced given one model at a time, and come with the images"
        raise UsageError(what, why, "leave out references")


def _names(argument: str, models: Any) -> list[str]:
    """Return a list of model names, or say what else it is."""
    if models is None:
        why, fix = "a distance is between two models", f"pass {argument} as well"
        raise UsageError(f"{argument} missing: no model to compare with", why, fix)
    if isinstance(models, str):
        what, why = f"{argument} is the text {models!r}, not a list", "each of its letters would be taken for a model"
        raise UsageError(what, why, f"pass {argument}=[{models!r}]")
    names = list(models) if isinstance(models, Iterable) else [models]
    names = [os.fsdecode(name) if isinstance(name, os.PathLike) else name for name in names]
    for name in names:
        if not isinstance(name, str):
            what, why = f"{argument} holds an object of type {type(name).__name__}", "models are compared by name here"
            raise UsageError(what, why, "pass names, or give loaded models to hf_infodist.information_distance")
    return names


def _no_models() -> UsageError:
    what, why = "there are no models to compare", "none are passed, and nothing was added before"
    return UsageError(what, why, 'pass predictions=["demo:cnn"] and, for a distance, references=["demo:vit"]')
