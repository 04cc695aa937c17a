"""How much information turns one image classifier into another."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_infodist.analysis.ensemble import choose_ensemble
    from hf_infodist.analysis.geometry import Geometry, isomap
    from hf_infodist.analysis.lineage import Lineage
    from hf_infodist.analysis.neighbours import Neighbours
    from hf_infodist.distances.distance import codelength, complexity, information_distance, information_transfer
    from hf_infodist.distances.pairwise import pairwise_distances
    from hf_infodist.distances.transfer import rank_checkpoints
    from hf_infodist.errors import InfodistError
    from hf_infodist.images.request import Sample
    from hf_infodist.images.sample import Images, load_images
    from hf_infodist.models.classifier import Classifier
    from hf_infodist.models.load import load_classifier
    from hf_infodist.pair import Execution
    from hf_infodist.protocol import PROTOCOLS, CodingProtocol
    from hf_infodist.results.codelength import Codelength
    from hf_infodist.results.distance import InformationDistance
    from hf_infodist.results.matrix import PairwiseMatrix
    from hf_infodist.results.ranking import Ranking

_HOMES = {
    "PROTOCOLS": "protocol",
    "Classifier": "models.classifier",
    "Codelength": "results.codelength",
    "CodingProtocol": "protocol",
    "Execution": "pair",
    "Geometry": "analysis.geometry",
    "Images": "images.sample",
    "InfodistError": "errors",
    "InformationDistance": "results.distance",
    "Lineage": "analysis.lineage",
    "Neighbours": "analysis.neighbours",
    "PairwiseMatrix": "results.matrix",
    "Ranking": "results.ranking",
    "Sample": "images.request",
    "choose_ensemble": "analysis.ensemble",
    "codelength": "distances.distance",
    "complexity": "distances.distance",
    "information_distance": "distances.distance",
    "information_transfer": "distances.distance",
    "isomap": "analysis.geometry",
    "load_classifier": "models.load",
    "load_images": "images.sample",
    "pairwise_distances": "distances.pairwise",
    "rank_checkpoints": "distances.transfer",
}

__all__ = [
    "PROTOCOLS",
    "Classifier",
    "Codelength",
    "CodingProtocol",
    "Execution",
    "Geometry",
    "Images",
    "InfodistError",
    "InformationDistance",
    "Lineage",
    "Neighbours",
    "PairwiseMatrix",
    "Ranking",
    "Sample",
    "choose_ensemble",
    "codelength",
    "complexity",
    "information_distance",
    "information_transfer",
    "isomap",
    "load_classifier",
    "load_images",
    "pairwise_distances",
    "rank_checkpoints",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``infodist --help`` needs no torch."""
    if name == "__version__":
        from importlib.metadata import version

        return version("hf-infodist")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, which are not there before they are used."""
    return [*__all__, "__version__"]
