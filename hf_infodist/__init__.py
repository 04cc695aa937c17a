"""How much information turns one image classifier into another."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_infodist.codelength import Codelength
    from hf_infodist.distance import Execution, codelength, complexity, information_distance, information_transfer
    from hf_infodist.ensemble import choose_ensemble
    from hf_infodist.errors import InfodistError
    from hf_infodist.geometry import Geometry, isomap
    from hf_infodist.images import Images, load_images
    from hf_infodist.lineage import Lineage
    from hf_infodist.models import Classifier, load_classifier
    from hf_infodist.pairwise import PairwiseMatrix, pairwise_distances
    from hf_infodist.protocol import PROTOCOLS, CodingProtocol
    from hf_infodist.result import InformationDistance

_HOMES = {
    "PROTOCOLS": "protocol",
    "Classifier": "models",
    "Codelength": "codelength",
    "CodingProtocol": "protocol",
    "Execution": "distance",
    "Geometry": "geometry",
    "Images": "images",
    "InfodistError": "errors",
    "InformationDistance": "result",
    "Lineage": "lineage",
    "PairwiseMatrix": "pairwise",
    "choose_ensemble": "ensemble",
    "codelength": "distance",
    "complexity": "distance",
    "information_distance": "distance",
    "information_transfer": "distance",
    "isomap": "geometry",
    "load_classifier": "models",
    "load_images": "images",
    "pairwise_distances": "pairwise",
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
    "PairwiseMatrix",
    "choose_ensemble",
    "codelength",
    "complexity",
    "information_distance",
    "information_transfer",
    "isomap",
    "load_classifier",
    "load_images",
    "pairwise_distances",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``infodist --help`` needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
