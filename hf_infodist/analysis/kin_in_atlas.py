"""Of whom in an atlas models are copies or kin; a model that the atlas does not have is run, and nothing else is."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from hf_infodist.analysis.atlas import load_atlas_images
from hf_infodist.analysis.from_atlas import FIRST, atlas_distances, gram, images_of, members_of, protocol_of
from hf_infodist.analysis.lineage import Lineage
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.errors import NotFoundError, UnfitError
from hf_infodist.images.sample import Images
from hf_infodist.models.declared import Declared, declared_among, read_claims
from hf_infodist.models.families import family_of, read_families
from hf_infodist.models.load import check_name, load_classifier
from hf_infodist.models.member import Member
from hf_infodist.outputs.forward import compute_outputs
from hf_infodist.pair import Execution
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.atlas.folder import Atlas

BESIDE = 12
"""Models of its architecture that each is held against, those that say most alike: kin are among them."""


def lineage_in_atlas(
    atlas: Atlas,
    names: Sequence[str] = (),
    protocol: str | CodingProtocol = "standard",
    *,
    reference: Sequence[str] = (),
    images: Any = None,
    execution: Execution | None = None,
    **options: Any,
) -> Lineage:
    """Test of whom in an atlas models are copies or kin.

    Args:
        atlas: Which.
        names: Of models, of the atlas or not; all of the atlas if none is named. Each is held against models of its
            architecture, of which nothing else is asked.
        protocol: How students are priced.
        reference: Names of further models to hold them against.
        images: The images of the atlas, where they lie elsewhere than it says; of new models they are needed.
        execution: How it is carried out.
        **options: ``workers``, ``on_status`` and so on, as in `pairwise_distances`.

    Raises:
        NotFoundError: If a model is neither in the atlas nor anywhere else, or the images are not there.
        UnfitError: If the images are others than those of the atlas.
    """
    settings = protocol_of(atlas, protocol)
    options |= {"execution": execution, "match_classes": True}
    if not names:
        everybody: list[Member | str] = [*members_of(atlas)]
        matrix, beside = atlas_distances(atlas, (), settings, **options), []
    else:
        asked = [_find(atlas, name) for name in dict.fromkeys([*names, *reference])]
        new = any(isinstance(one, str) for one in asked)
        drawn = load_atlas_images(atlas, images) if new else images_of(atlas)
        beside = _beside(atlas, asked, drawn, execution or Execution())
        if len(asked) + len(beside) < 2:
            what = f"{names[0]} cannot be held against any model of {atlas.folder}"
            why = "it has none of the same architecture, and strangers of one are nearer to each other than to others"
            raise UnfitError(what, why, f"infodist nearest {names[0]} --atlas {atlas.folder}")
        everybody = [*asked, *beside]
        matrix = pairwise_distances(everybody, drawn, protocol=settings, **options)
    others = {*reference, *(member.id for member in beside)}
    families = [_family(one) for one in everybody]
    return Lineage.of(matrix, _declared(everybody), families=families, reference=others)


def _find(atlas: Atlas, name: str) -> Member | str:
    """Return a model of the atlas, or else the name of a new one."""
    try:
        return Member.of(atlas.find(name))
    except NotFoundError:
        check_name(name)
        return name


def _beside(atlas: Atlas, asked: Sequence[Member | str], images: Images, execution: Execution) -> list[Member]:
    """Return models of the atlas that the models asked about are held against."""
    ids = {_name(one) for one in asked}
    by_family: dict[str, list[Member]] = {}
    for member in members_of(atlas):
        if member.id not in ids:
            by_family.setdefault(_family(member), []).append(member)
    chosen: dict[str, Member] = {}
    for one in asked:
        same, own = by_family.get(_family(one), []), gram(_first_logits(one, images, execution))
        alike = {member: float((own * gram(member.file.logits[:FIRST])).sum()) for member in same}
        chosen |= {member.id: member for member in sorted(same, key=lambda member: -alike[member])[:BESIDE]}
    return list(chosen.values())


def _first_logits(model: Member | str, images: Images, execution: Execution) -> NDArray:
    if isinstance(model, Member):
        return model.file.logits[:FIRST]
    options: dict[str, Any] = {"device": make_accelerator().device, "home": execution.home, "chunk": execution.chunk}
    return compute_outputs(load_classifier(model), images, **options).logits[:FIRST]


def _name(model: Member | str) -> str:
    return model if isinstance(model, str) else model.id


def _family(model: Member | str) -> str:
    """Return the architecture of a model, without size and variant: as the atlas has it, else as its name tells it."""
    return read_families([model])[0] if isinstance(model, str) else family_of(model.file.entry.architecture)


def _declared(models: Sequence[Member | str]) -> dict[str, Declared]:
    """Return what cards declare, by name: of models of the atlas as it has them, of others as they say it now."""
    told = {_name(one): read_claims(one)[1:] if isinstance(one, str) else _claims(one) for one in models}
    return declared_among({name: one[0] for name, one in told.items()}, {name: one[1] for name, one in told.items()})


def _claims(member: Member) -> tuple[tuple[str, ...], str]:
    return member.file.entry.base_models, member.file.entry.relation
