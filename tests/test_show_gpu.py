"""Where GPUs are lent by the call, a comparison borrows one for as long as the estimate says."""

import asyncio
import sys
from types import SimpleNamespace

import pytest

from hf_infodist.page import compute, gpu
from hf_infodist.page.events import Block, Checked, Done, Failed, Stopped
from hf_infodist.page.request import Comparison, Limits
from hf_infodist.page.starts import Start

PAIR = Comparison("demo:cnn", "demo:vit", k=32, protocol="standard")


@pytest.fixture
def borrowed(monkeypatch):
    """Lend GPUs as the package of Spaces does; return for how long each was borrowed."""
    seconds = []

    def lend(duration):
        def wrap(function):
            def call(*args):
                seconds.append(duration(*args))
                return function(*args)

            return call

        return wrap

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lend))
    monkeypatch.setattr(gpu, "_borrowing", gpu._borrowing.__wrapped__)
    return seconds


def run(stopped=lambda: False, question=PAIR):
    async def listen():
        return [event async for event in gpu.answer(question, Limits(), stopped)]

    return asyncio.run(listen())


@pytest.mark.slow
def test_the_borrowed_gpu_gives_the_same_result(borrowed):
    events = run()
    assert any(isinstance(event, Block) for event in events)
    assert isinstance(events[-1], Done) and events[-1].record["comparison"] == PAIR.to_dict()
    assert borrowed == [20]


@pytest.mark.slow
def test_labels_are_learnt_on_the_borrowed_gpu_too(borrowed):
    *events, done = run(question=Start("demo:cnn", k=33))
    assert any(isinstance(event, Block) for event in events)
    assert isinstance(done, Done) and done.record["model"]["id"] == "demo:cnn" and borrowed == [20]


@pytest.mark.parametrize(("flops", "seconds"), [(0.0, 20), (2.5e14, 65), (1e18, 120)])
def test_the_duration_follows_the_estimate(monkeypatch, flops, seconds):
    monkeypatch.setattr(compute, "check", lambda *args: Checked((1, 1), flops, 1.0, "cpu", True, ""))
    assert gpu.duration(PAIR, Limits()) == seconds


@pytest.mark.slow
def test_stopping_gives_the_gpu_back(borrowed):
    assert run(stopped=lambda: True) == [Stopped("you stopped it")]


def test_no_gpu_is_said_politely(monkeypatch):
    def refuse(*args):
        raise RuntimeError("You have exceeded your GPU quota")

    monkeypatch.setattr(gpu, "_borrowing", lambda: refuse)
    (event,) = run()
    assert isinstance(event, Failed) and "quota" in event.why
