"""Which images: what is asked for, before anything is loaded."""

from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from hf_infodist.errors import UsageError, whole

DEFAULT_IMAGES = "zh-plus/tiny-imagenet"
DEFAULT_K = 2000


class SampleOptions(TypedDict, total=False):
    """The fields of a `Sample` that functions take as keywords, beside ``images``."""

    k: int | None
    seed: int
    config: str | None
    split: str | None
    column: str | None
    streaming: bool


@dataclass(frozen=True)
class Sample:
    """A sample of a dataset, as it is asked for; ``None`` leaves the choice open.

    Attributes:
        images: Dataset of the Hub (``org/name[@revision]``), local folder (of images, of tables, or written by
            ``save_to_disk``), ``.zip`` or ``.tar`` of images, ``.parquet`` or ``.arrow`` file, ``digits``
            (scikit-learn's, needs no network); in Python also a `datasets.Dataset` or `datasets.IterableDataset`, a
            dictionary of these by split, or a list of PIL images, arrays ``[H, W]`` or ``[H, W, 3]``, tensors
            ``[C, H, W]``, files or their bytes, or of pairs of these and their class. Loaded `Images` are cut to ``k``
            and otherwise stay as they are.
        config: Configuration of the dataset.
        split: Split, or ``all`` of them; by default the only one, or ``train``.
        column: Column of images, or ``outer.inner`` of a structure; by default the only one, or ``image``, or ``img``.
        k: Number of images; by default `DEFAULT_K`, or all where there are fewer.
        seed: Of the order.
        streaming: Read a Hub dataset, a folder or a parquet file only as far as it is needed.

    Raises:
        UsageError: If ``k`` or ``seed`` cannot be meant.
    """

    images: Any = DEFAULT_IMAGES
    config: str | None = None
    split: str | None = None
    column: str | None = None
    k: int | None = None
    seed: int = 0
    streaming: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", None if self.k is None else whole(self.k, "k"))
        object.__setattr__(self, "seed", whole(self.seed, "seed"))
        check_sample(self.k, self.seed)

    @classmethod
    def of(cls, images: Any, **options: Unpack[SampleOptions]) -> "Sample":
        """Return what is asked for: ``images`` may be a sample, of which options change some fields."""
        return replace(images, **options) if isinstance(images, Sample) else cls(images, **options)


def check_sample(k: int | None, seed: int) -> None:
    """Refuse a sample that cannot be meant.

    Raises:
        UsageError: If ``k`` is given and not positive, or ``seed`` is negative.
    """
    if k is not None and k <= 0:
        raise UsageError(f"k = {k} images", "a codelength is a sum over at least one image", "give a positive -k")
    if seed < 0:
        raise UsageError(f"seed {seed}", "seeds count from zero", "give a --seed of 0 or more")
