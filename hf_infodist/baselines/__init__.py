"""Measures that others use: of weights, of features and of outputs. None of them learns anything."""

from hf_infodist.baselines.measures import MEASURES, Measure
from hf_infodist.baselines.result import BaselineResult, Inapplicable
from hf_infodist.baselines.table import baselines, format_table

__all__ = ["MEASURES", "BaselineResult", "Inapplicable", "Measure", "baselines", "format_table"]
