"""Curves of a comparison in the trackers of Accelerate, while it is running."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module

from accelerate import PartialState
from accelerate.tracking import GeneralTracker, TensorBoardTracker, TrackioTracker, WandBTracker
from accelerate.utils import gather_object

from hf_infodist.distances.code import ProgressCallback
from hf_infodist.errors import UsageError
from hf_infodist.home import Home
from hf_infodist.hub import one_line
from hf_infodist.pair import Pair
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.words import to_bits

PROJECT = "infodist"


class Curves:
    """Both curves of a comparison, in bits: a run of its own for each direction, in each tracker.

    An instance is what `information_distance` takes as ``on_block``. A step is an image; ``bits`` is what all images
    up to there have cost, ``bits_per_image`` their mean. Of a direction that is coded in several orders of the images
    the mean curve is logged, which is known in the end.

    Args:
        trackers: Some of ``tensorboard``, ``trackio`` and ``wandb``.
        pair: What is compared.
        protocol: How it is coded.
        then: Called after each block as well.
        home: Where TensorBoard's files go.
    """

    def __init__(
        self,
        trackers: Sequence[str],
        pair: Pair,
        protocol: CodingProtocol,
        then: ProgressCallback | None = None,
        home: Home | None = None,
    ):
        self.trackers, self.pair, self.protocol, self.then = tuple(trackers), pair, protocol, then
        self.folder = (home or Home.at()).tensorboard
        self.direction, self.running = "", list[GeneralTracker]()
        self.seen: set[str] = set()

    def __enter__(self) -> "Curves":
        return self

    def __exit__(self, *error: object) -> None:
        self._finish()

    def __call__(self, direction: str, images: int, nats: float) -> None:
        """Log where a direction stands.

        Raises:
            UsageError: If a tracker cannot start.
        """
        if self.trackers and self.protocol.orders == 1:
            self._log(direction, images, nats)
        if self.then:
            self.then(direction, images, nats)

    def complete(self, codes: Mapping[str, Codelength]) -> None:
        """Log the curves that were not logged by any process, such as those of the store; all processes call this."""
        missing = set(codes) - set(gather_object(sorted(self.seen)))
        mine = bool(self.trackers) and PartialState().is_main_process
        for direction in sorted(missing) if mine else ():
            for images, nats in codes[direction].curve(len(self.pair.images)):
                self._log(direction, images, nats)
        self._finish()

    def _log(self, direction: str, images: int, nats: float) -> None:
        if direction != self.direction:
            self._finish()
            self.running = [self._start(name, direction) for name in self.trackers]
            self.direction = direction
            self.seen.add(direction)
        bits = to_bits(nats)
        for tracker in self.running:
            with _told_apart():
                tracker.log({"bits": bits, "bits_per_image": bits / images}, step=images)

    def _start(self, name: str, direction: str) -> GeneralTracker:
        student, teacher = self.pair.roles(direction)
        images, protocol = self.pair.images.record, self.protocol.name
        run, group = f"{teacher.id} given {student.id}", f"{images.k} of {images.id}, seed {images.seed}, {protocol}"
        config = {"teacher": teacher.id, "student": student.id, "protocol": protocol, **vars(images)}
        made: dict[str, GeneralTracker] = {
            "tensorboard": TensorBoardTracker(_file_name(run), self.folder / _file_name(group)),
            "trackio": TrackioTracker(PROJECT, name=run, group=group, config=config),
            "wandb": WandBTracker(PROJECT, name=run, group=group, config=config),
        }
        tracker = made[name]
        tracker.main_process_only = False  # a direction belongs to the process that codes it
        try:
            with _told_apart():
                tracker.start()
        except Exception as error:
            fix = f"set {name} up as its pages say, or leave --log-with {name} out"
            raise UsageError(f"{name} cannot start a run", one_line(error), fix) from error
        return tracker

    def _finish(self) -> None:
        for tracker in self.running:
            end = import_module("trackio").finish if tracker.name == "trackio" else tracker.finish  # or it ends twice
            with _told_apart():
                end()
        self.direction, self.running = "", []


@contextmanager
def _told_apart() -> Iterator[None]:
    """Keep what a tracker prints out of standard output, where results go."""
    with redirect_stdout(sys.stderr):
        yield


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.@, -]+", "_", text)[-200:]
