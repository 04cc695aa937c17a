"""The card of an atlas in a dataset repository."""

from hf_infodist.results.atlas.head import AtlasHead

_CARD = """---
tags:
- image-classification
- model-comparison
- information-distance
configs:
- config_name: models
  data_files: index.parquet
---

# An atlas of image classifiers

What is needed to tell how far a classifier is from each of these, without their weights: their outputs on
{images}, and distances between these images in the features of their layers. `index.parquet` lists the models;
`models/` has a file of safetensors for each.

The models nearest to one of yours, which alone is loaded and run:

```sh
pip install hf-infodist
infodist nearest MODEL --atlas {repo}
```

Fingerprint of the images and their order: `{fingerprint}`. Pictures are not part of it. The licences of the models are
in the table; outputs of a model may fall under its licence.
"""


def card_of(head: AtlasHead, repo: str) -> str:
    """Return the text of ``README.md``, with the fields by which the Hub shows the table."""
    return _CARD.format(images=head.images, repo=repo, fingerprint=head.images.fingerprint)
