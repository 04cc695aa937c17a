"""The study of nats against seconds measures what is missing, once, and draws it."""

import json

import pytest

from hf_infodist.cli import main
from hf_infodist.studies import frontier
from hf_infodist.studies.networks.pairs import Setting

PAIR = Setting("other-half", "demo:cnn", "demo:vit", "digits")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(frontier, "PAIRS", (PAIR,))


def run(tmp_path, *words):
    arguments = ["study", "frontier", "--work", tmp_path / "work", "--output", tmp_path / "out", *words]
    with pytest.raises(SystemExit, match=r"^0$"):
        main([str(word) for word in arguments])
    return json.loads((tmp_path / "out" / "frontier.json").read_text())["points"]


def test_points_are_measured_once_kept_and_drawn(tmp_path, small, monkeypatch, capsys):
    words = ["-k", "40", "-k", "60", "-p", "standard", "-p", "paper"]
    first = run(tmp_path, *words)
    assert [(p["coder"], p["k"]) for p in first] == [("standard", 40), ("paper", 40), ("standard", 60), ("paper", 60)]
    assert all(p["nats"] > 0 and p["last_nats"] > 0 and p["seconds"] > 0 for p in first)
    assert (tmp_path / "out" / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert "other-half, k=60, paper" in capsys.readouterr().out
    monkeypatch.setattr(frontier, "measure_point", lambda *_: pytest.fail("it was measured before"))
    assert run(tmp_path, *words) == first
