"""Which questions about two networks the distance answers, and how well, beside cheaper measures.

``infodist study questions --work FOLDER [-k 1000] [--seeds 5] [--figures FOLDER] [--output FOLDER]``

Of each seed one network, twelve that are made from it, and four strangers of its architecture, trained on the same
pictures from other first weights. What is made hides where it comes from: units or classes in another order, weights
pruned or rounded to eight bits, trained on with half of the pictures, noisy labels, other data or a coarser question,
distilled into fresh weights of the same or of another architecture; or several of these at once. Of each copy: is it
nearer to its origin than to a stranger? By chance it is in half of the triplets. A measure that asks for the same
classes or layers does not apply where these differ; weights are therefore compared on those layers, too, that both
networks have.

Where a folder has the figures of ``zoo_map``, ``datasets_map`` and ``transfer``, three more questions are answered by
these. Is a network of the same task nearer than one of another? Is one of the same task and another architecture
nearer than one of the same architecture and another task? Is the nearer to a network that has learnt a data set the
better start for learning it (weighted tau with the loss that fine-tuning reaches, mean over data sets; 0 by chance)?
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_infodist.models.classifier import Classifier
from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies.measures.asked import CHEAP, FAMILIES, OURS, Found, Values, all_distances, best, origin_found
from hf_infodist.studies.measures.told import Told, by_start, by_task
from hf_infodist.studies.networks.births import HIDDEN, Birth
from hf_infodist.studies.networks.data import Task, sample
from hf_infodist.studies.networks.forest import SCALES, grow, task_of
from hf_infodist.studies.networks.zoo import held_out_accuracy
from hf_infodist.studies.report.options import Examples, Folder, Images, Protocol, Seeds, Work, typed
from hf_infodist.studies.report.output import show, write
from hf_infodist.table import text_table

TITLES = {
    "neurons": "units in another order",
    "labels": "classes in another order",
    "pruned": "half of the weights pruned",
    "quantised": "weights of eight bits",
    "half": "trained on, half of the pictures",
    "noisy": "trained on, noisy labels",
    "elsewhere": "trained on, other data and classes",
    "relabelled": "trained on, coarser question",
    "distilled": "distilled",
    "distilled-vgg": "distilled, other architecture",
    "noisy-neurons": "noisy labels, units in another order",
    "noisy-hidden": "noisy labels, units and classes in another order",
}
"""What is made of a network, by the rest of its name."""
Scores = dict[str, Mapping[str, float | None]]  # by question, then by measure


def hidden(distances: Sequence[dict[str, Values]]) -> dict[str, dict[str, Found | None]]:
    """Return how well each measure finds the origin, by what was made of it.

    Args:
        distances: Of each seed, by measure ``[n, n]`` in the order of `HIDDEN`.
    """
    strangers = [place for place, birth in enumerate(HIDDEN) if birth.how == "root" and birth.name != "a"]
    found = {}
    for place, birth in enumerate(HIDDEN):
        if birth.parent:
            rows = {
                name: [(seed[name][place, 0], seed[name][place, strangers].tolist()) for seed in distances]
                for name in distances[0]
            }
            title = TITLES[birth.name.partition("-")[2]]
            found[title] = {name: origin_found(those) for name, those in rows.items()}
    return found


def all_scores(copies: Mapping[str, Mapping[str, Found | None]], told: Told) -> Scores:
    """Return one number for each question and measure."""
    shares = {title: {name: one.share if one else None for name, one in row.items()} for title, row in copies.items()}
    return {**shares, **{title: {name: one.value for name, one in row.items()} for title, row in told.items()}}


def accuracy(birth: Birth, network: Classifier, test: Task) -> float | None:
    """Return the share of test pictures that a network gets right; None if it is not asked for their classes."""
    if birth.how in ("labels", "elsewhere"):
        return None
    return held_out_accuracy(network, task_of("relabelled", test, 0) if birth.how == "relabelled" else test)


def compact(scores: Scores) -> str:
    """Show the distance, and the best of other measures by what they look at, a row for each question."""
    ours = FAMILIES[OURS]
    rows = [
        (question, *(number(row.get(name)) for name in ours), *(_named(best(row, names)) for names in CHEAP.values()))
        for question, row in scores.items()
    ]
    return text_table(("question", *ours, *(f"best of {name}" for name in CHEAP)), rows)


def number(value: float | None) -> str:
    """Return two digits, or ``n/a``."""
    return "n/a" if value is None else f"{value:.2f}"


def _named(found: tuple[str, float] | None) -> str:
    """Return a score and whose it is."""
    return "n/a" if found is None else f"{found[1]:.2f} {found[0].partition('/')[2]}"


def everything(scores: Scores) -> str:
    """Show all scores, a row for each measure."""
    measures = [name for names in FAMILIES.values() for name in names]
    rows = [(name, *(number(values.get(name)) for values in scores.values())) for name in measures]
    return text_table(("measure", *scores), rows)


def main(
    context: typer.Context,
    work: Work,
    k: Images = 1000,
    protocol: Protocol = "standard",
    seeds: Seeds = 5,
    train: Examples = None,
    figures: Annotated[Path | None, typer.Option("--figures", help="folder of the figures of other studies")] = None,
    output: Folder = None,
) -> None:
    """Train what is missing, measure what is missing, and show who answers what."""
    scale = replace(SCALES["small"], k=k, train=train or SCALES["small"].train)
    pictures, test = scale.load()
    pictures, images = pictures.first(scale.train), sample(f"{test.name}, test", test.images, k)
    told = {**by_task(figures), **by_start(figures)} if figures else {}
    distances: list[dict[str, Values]] = []
    accuracies: list[dict[str, float | None]] = []
    with one_thread(make_accelerator().device):
        for seed in range(seeds):
            networks = grow(HIDDEN, pictures, work / f"seed-{seed}", scale, seed)
            pairs = list(zip(HIDDEN, networks, strict=True))
            accuracies.append({birth.name: accuracy(birth, network, test) for birth, network in pairs})
            distances.append(all_distances(networks, images, PROTOCOLS[protocol]))
            copies = hidden(distances)
            scores = all_scores(copies, told)
            measured = {"accuracy": accuracies, "distances": distances}
            facts: dict[str, Any] = {"seeds": seed + 1, "k": k, "protocol": protocol, "train": scale.train}
            facts |= {"scores": scores, "copies": copies, "others": told, **measured}
            write("questions", typed(context), facts, output)
    if output:
        from hf_infodist.studies.report.questions_plot import draw

        draw(scores, output / "questions.png")
    show(compact(scores), everything(scores))
