"""The information distance as a metric of `evaluate`; its loader finds it through ``metrics/infodist/infodist.py``."""

import functools
import os
import statistics
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Unpack

import datasets
import evaluate

from hf_infodist.distances.distance import information_distance
from hf_infodist.errors import UsageError
from hf_infodist.images.request import DEFAULT_IMAGES, Sample, SampleOptions
from hf_infodist.images.sample import load_images
from hf_infodist.models.load import check_name
from hf_infodist.protocol import CodingProtocol, resolve_protocol

_DESCRIPTION = """
How much information turns one image classifier into another. Each prediction is compared with the reference at the
same place; both are names of models, of any architecture and any label space. The distance is the larger of two
codelengths: what it costs, in nats, to teach a copy of one model the outputs of the other over k images. 0 means the
same function on these images.
"""

_INPUTS = """
Args:
    predictions (list of str): Names of models: `org/name[@revision]`, `timm:NAME`, `torchvision:NAME[@WEIGHTS]`, a
        folder, `random:` before any of these, `demo:cnn` or `demo:vit`.
    references (list of str): As many names of models.
    images (str, datasets.Dataset or list of PIL images): The images between the models; a name is a dataset of the
        Hub, a folder, a parquet file, or `digits`.
    k (int): How many images; all, at most 2000, if None.
    seed (int): Order of the images, and every draw of the protocol; the `seed` of `evaluate.load`, or 0, if None.
    protocol (str): How students learn, instead of the configuration that the metric was loaded with.
    config (str): Configuration of the dataset.
    split (str): Split of the dataset.
    column (str): Column of the dataset that holds images.
    streaming (bool): Read the dataset as a stream.

Returns:
    infodist (list of float): Distance of each pair in nats, the larger of its two codelengths.
    prediction_given_reference (list of float): Codelength of each prediction for somebody who has its reference.
    reference_given_prediction (list of float): Codelength of each reference for somebody who has its prediction.
    mean_infodist (float): Mean of `infodist`.

Example:
    >>> metric = evaluate.load("metrics/infodist")
    >>> results = metric.compute(predictions=["demo:cnn"], references=["demo:vit"], images="digits", k=64)
"""

_CITATION = """
@unpublished{infodist,
    title = {Information Distance for Neural Network Functions},
    author = {Anonymous},
    note = {Under review}
}
"""


class Infodist(evaluate.Metric):
    """d_p(A, B) = max(L'(A|B), L'(B|A)), equation (7), of pairs of model names; its configurations are protocols."""

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
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({name: datasets.Value("string") for name in ("predictions", "references")}),
            license="Apache-2.0",
        )

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
        given: dict[str, Any] = {name: value for name, value in sample.items() if value is not None}
        wanted = replace(images if isinstance(images, Sample) else Sample(images, seed=self.seed), **given)
        settings = resolve_protocol(protocol or self.config_name, wanted.seed)
        if predictions is None and references is None and self.writer is None:
            raise _no_models()
        options = {"sample": wanted, "protocol": settings}
        return super().compute(predictions=predictions, references=references, **options)

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
    what, why = "there are no models to compare", "predictions and references are empty, and nothing was added before"
    return UsageError(what, why, 'pass predictions=["demo:cnn"], references=["demo:vit"], or other names of models')
