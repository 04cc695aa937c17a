"""Work for the tab of an atlas, beside the page: placing a new model, and all distances of the map."""

from hf_infodist.analysis.from_atlas import Compared, atlas_distances, nearest_in_atlas
from hf_infodist.analysis.neighbours import Neighbours
from hf_infodist.distances.plan import Status
from hf_infodist.errors import UnfitError
from hf_infodist.home import Home
from hf_infodist.models.declared import declared_in_atlas
from hf_infodist.page.atlas_matrix import keep_matrix
from hf_infodist.page.compute import Tell, load
from hf_infodist.page.events import Done, Stage
from hf_infodist.page.placing import Mapping, Placing
from hf_infodist.page.request import Limits
from hf_infodist.results.atlas.folder import Atlas
from hf_infodist.results.atlas.shipped import open_atlas
from hf_infodist.results.files import of_results


def answer(question: Placing | Mapping, limits: Limits, tell: Tell) -> Done:
    """Answer a question about an atlas. Arguments as in `compute.answer`."""
    atlas = Atlas.open(open_atlas(question.atlas).folder, writable=False)
    return _place(question, atlas, limits, tell) if isinstance(question, Placing) else _map(question, atlas, tell)


def _place(question: Placing, atlas: Atlas, limits: Limits, tell: Tell) -> Done:
    def on_compared(progress: Compared) -> None:
        tell(Stage(f"compared with {progress.compared} of the {progress.total} models of {question.atlas}"))

    name = question.model
    if name not in atlas.names:
        tell(Stage(f"fetching {name}"))
    model = name if name in atlas.names else load("model", name, limits)
    tell(Stage(f"running it on the {question.k} images of {question.atlas}, and comparing it with the likeliest"))
    found = of_results(nearest_in_atlas(atlas, model, question.n, on_compared=on_compared))
    return Done(Neighbours.of(found, found.models[0].id, declared=declared_in_atlas(atlas, name)).to_dict())


def _map(question: Mapping, atlas: Atlas, tell: Tell) -> Done:
    def on_status(status: Status) -> None:
        tell(Stage(f"{status.done} of {status.total} codelengths are known"))

    tell(Stage(f"comparing all {len(atlas.names)} models with one another"))
    matrix = atlas_distances(atlas, on_status=on_status)
    if matrix.errors:
        why = next(iter(matrix.errors.values()))
        raise UnfitError(f"{question.atlas} has no whole map", why, "add the model again, or remove it")
    keep_matrix(Home.at().pages, atlas, matrix)
    return Done({"models": [model.id for model in matrix.models]})
