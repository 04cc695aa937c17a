"""What `evaluate.load` reads: it takes the metric that the import brings along, the only one here."""

from hf_infodist.metric import Infodist

__all__ = ["Infodist"]
