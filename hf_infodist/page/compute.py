"""The work behind the page: what an answer would cost, and the answer itself. Runs beside the page."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from hf_infodist.baselines import baselines
from hf_infodist.distances.code import stored_directions
from hf_infodist.distances.cost import Estimate, estimate_cost, total_cost
from hf_infodist.distances.distance import distance_of_pair
from hf_infodist.distances.transfer import rank_checkpoints
from hf_infodist.errors import InfodistError, UnfitError
from hf_infodist.images.sample import Images, load_images, load_labelled_images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import count_parameters, load_classifier
from hf_infodist.page.candidates import to_record
from hf_infodist.page.differences import differences
from hf_infodist.page.events import Block, Checked, Done, Event, Stage
from hf_infodist.page.records import Record
from hf_infodist.page.request import DEMO, OFFERED, Comparison, Limits, Refusal
from hf_infodist.page.starts import Question, Start
from hf_infodist.pair import Pair, prepare_pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import LABEL_PROTOCOLS, PROTOCOLS, CodingProtocol, resolve_protocol
from hf_infodist.results.distance import InformationDistance

Tell = Callable[[Event], None]
_HUB_SECONDS = 5.0  # the Hub has so long to say how large a model is


def check(question: Question, limits: Limits) -> Checked:
    """Return what an answer would cost; fetches configurations, no weights.

    Raises:
        Refusal: If a model cannot take part, or there are too few images; it names the box.
    """
    headless = isinstance(question, Start)
    parameters = tuple(_check_model(*model, limits, headless=headless) for model in question.models.items())
    _check_images(question)
    names = [f"random:{name.removeprefix('random:')}" for name in question.models.values()]
    protocol = _protocol(question)
    fresh = [load_classifier(name, headless=headless) for name in names]
    cost = estimate_cost(fresh, question.k, protocol, make_accelerator().device)
    fits = cost.seconds <= limits.seconds
    instead = "" if fits else _what_fits(cost, protocol, limits)
    return Checked(parameters, float(cost.flops), cost.seconds, cost.device, fits, instead)


def answer(question: Question, limits: Limits, tell: Tell) -> Done:
    """Answer a question, telling block by block how it goes.

    Args:
        question: What was asked.
        limits: What is given.
        tell: Receives events; may raise, which ends the run and keeps its checkpoint.
    """
    return _learn(question, limits, tell) if isinstance(question, Start) else compare(question, limits, tell)


def compare(comparison: Comparison, limits: Limits, tell: Tell) -> Done:
    """Compare two models. Arguments as in `answer`."""
    tell(Stage(f"fetching {comparison.a} and {comparison.b}"))
    a, b = load("a", comparison.a, limits), load("b", comparison.b, limits)
    tell(Stage(f"running both models on {comparison.k} images of {comparison.images}"))
    images = _images(comparison)
    accelerator = make_accelerator()
    pair = prepare_pair(a, b, images, accelerator=accelerator)
    protocol = _protocol(comparison)
    directions = 2 - len(stored_directions(pair, protocol, accelerator=accelerator))
    clock = _Clock(comparison.k, protocol, directions, tell)
    result = distance_of_pair(pair, protocol, accelerator=accelerator, on_block=clock)
    tell(Stage("asking other measures"))
    return Done(_record(comparison, pair, result).to_dict())


def _record(comparison: Comparison, pair: Pair, result: InformationDistance) -> Record:
    rows = [vars(row).copy() for row in baselines(pair)]
    return Record.of(comparison, result, rows, differences(pair))


def _learn(start: Start, limits: Limits, tell: Tell) -> Done:
    """Learn labels from a model."""
    tell(Stage(f"reading {start.k} labelled images of {start.images}"))
    images = _images(start)
    tell(Stage(f"fetching {start.model}"))
    model = load("models", start.model, limits, headless=True)
    tell(Stage(f"running it on {start.k} images of {start.images}"))
    with _refusing("models"):
        found = rank_checkpoints(
            [model],
            images,
            label=start.label or None,
            protocol=start.protocol,
            seed=start.seed,
            on_block=_Clock(start.k, _protocol(start), 1, tell),
        )
    return Done(to_record(found))


def _protocol(question: Question) -> CodingProtocol:
    presets = LABEL_PROTOCOLS if isinstance(question, Start) else PROTOCOLS
    return resolve_protocol(question.protocol, question.seed, presets=presets)


class _Clock:
    """Tells blocks, with the time that is left: learning is taken to go on at the speed it has had."""

    def __init__(self, k: int, protocol: CodingProtocol, directions: int, tell: Tell):
        self.protocol, self.directions, self.tell = protocol, directions, tell
        self.whole, self.before, self.direction = self._work(k), 0.0, ""
        self.started = time.monotonic()

    def _work(self, images: int) -> float:
        return images + self.protocol.gradient_images(images)

    def __call__(self, direction: str, images: int, nats: float) -> None:
        if self.direction not in ("", direction):
            self.before = self.whole
        self.direction = direction
        done = (self.before + self._work(images)) / (self.directions * self.whole)
        left = (time.monotonic() - self.started) * (1 - done) / done
        self.tell(Block(direction, images, nats, left))


def _images(question: Question) -> Images:
    with _refusing("images"):
        try:
            if isinstance(question, Start):
                label = question.label or None
                return load_labelled_images(question.images, label, k=question.k, seed=question.seed)
            return load_images(question.images, k=question.k, seed=question.seed)
        except InfodistError as error:
            box = next((box for words, box in _BOXES.items() if words in error.what + error.fix), "images")
            fix = re.sub("; [^;]* --streaming", "", error.fix)  # nothing is streamed here
            fix = fix.replace("by --label", "as label column").replace("--label", "label column")
            raise Refusal(box, error.what, error.why, fix.replace("-k ", "")) from error


_BOXES = {"fewer than": "k", "--label": "label"}
"""From which box an error about images comes, by words in it."""


def _check_images(question: Question) -> None:
    """Refuse images that this machine does not have, or too few of them; nothing is fetched from the Hub for that."""
    on_hub = re.fullmatch(r"\w[\w.-]*/[\w.-]+(@.+)?", question.images)
    if not on_hub or os.path.exists(question.images):
        _images(question)


def load(field: str, name: str, limits: Limits, *, headless: bool = False) -> Classifier:
    """Load a model that may take part; `Refusal` of a box if it may not."""
    _check_model(field, name, limits, headless=headless)
    with _refusing(field):
        return load_classifier(name, pickles=not limits.public, headless=headless)


def _check_model(field: str, name: str, limits: Limits, *, headless: bool = False) -> int:
    """Return the number of weights of a model that may take part."""
    with _refusing(field):
        parameters, most = count_parameters(name, headless=headless), limits.parameters
        if limits.public and parameters > most:
            what = f"{name} is too large for this page: {parameters / 1e6:,.0f} million weights"
            fix = "choose a smaller one, or type infodist compare on a machine of your own"
            raise UnfitError(what, f"it takes models of up to {most / 1e6:,.0f} million", fix)
        if limits.public and name not in DEMO:
            _check_files(name, limits.weight_bytes)
    return parameters


@contextmanager
def _refusing(field: str) -> Iterator[None]:
    """Say from which box an error comes."""
    try:
        yield
    except Refusal:
        raise
    except InfodistError as error:
        raise Refusal(field, error.what, error.why, error.fix) from error


def _check_files(name: str, most_bytes: int) -> None:
    """Refuse a repository without safetensors, or with too large ones; without the Hub the cache decides."""
    from huggingface_hub import HfApi

    repo, _, revision = name.partition("@")
    try:
        info = HfApi().model_info(repo, revision=revision or None, files_metadata=True, timeout=_HUB_SECONDS)
    except Exception:  # every kind of refusal: loading will say which, in its words
        return
    sizes = [file.size or 0 for file in info.siblings or () if file.rfilename.endswith(".safetensors")]
    if not sizes:
        why = "only safetensors are read here: other formats may hold code"
        raise UnfitError(f"{name} has no safetensors", why, "ask its author for them, or choose another model")
    if sum(sizes) > most_bytes:
        what, why = f"the weights of {name} are {sum(sizes) / 1e9:.1f} GB", f"the limit is {most_bytes / 1e9:.1f} GB"
        raise UnfitError(what, why, "choose a smaller model")


def _what_fits(cost: Estimate, protocol: CodingProtocol, limits: Limits) -> str:
    """Return a cheaper protocol for the same images, or fewer images, in words."""
    cheaper = [name for name in OFFERED if _seconds(cost, PROTOCOLS[name], cost.k) <= limits.seconds]
    fewer = [k for k in (16, 32, 64, 128, 256, 512, 1024) if _seconds(cost, protocol, k) <= limits.seconds]
    options = [f"the protocol {name}" for name in cheaper[-1:]] + [f"{k} images" for k in fewer[-1:]]
    return " or ".join(options)


def _seconds(cost: Estimate, protocol: CodingProtocol, k: int) -> float:
    return total_cost(cost.models, k, replace(protocol, orders=1), cost.device).seconds
