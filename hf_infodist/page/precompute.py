"""Computes the records that come with the page: ``python -m hf_infodist.page.precompute``, minutes on one core."""

import itertools
import logging

from hf_infodist.page.compute import compare
from hf_infodist.page.records import SHIPPED, Record, Records, shipped_paths
from hf_infodist.page.request import DEMO, Comparison, Limits

logger = logging.getLogger(__name__)


def main() -> None:
    """Compare every pair of the embedded models, and leave out what came before."""
    for path in shipped_paths():
        path.unlink()
    records = Records(SHIPPED)
    for a, b in itertools.combinations(DEMO, 2):
        done = compare(Comparison(a, b), Limits(), lambda event: None)
        record = Record.from_dict(done.record)
        records.save(record)
        logger.info("%s and %s: %.1f nats", a, b, record.result["distance"]["nats"])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
