"""The section for a model's card; `test_hub.py` opens it as a pull request."""

import json
import math
import re
from dataclasses import replace

import huggingface_hub
import pytest
import yaml

from hf_infodist import cards as card
from hf_infodist.cards import NearestCheckpoints, check_comparisons, check_pull_request, insert_section, write_section
from hf_infodist.cli import main
from hf_infodist.distances.distance import information_distance
from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.models.source import Source
from hf_infodist.pair import Execution
from hf_infodist.results.records import ModelRecord


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    others, execution = ("random:demo:vit", "demo:vit"), Execution(home=tmp_path_factory.mktemp("store"))
    return [
        information_distance("demo:cnn", b, "digits", k=48, protocol="standard", execution=execution) for b in others
    ]


@pytest.fixture(scope="module")
def nearest(results):
    return NearestCheckpoints.of(results)


def run(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert not stopped.value.code
    return capsys.readouterr().out


def rows(markdown):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", markdown, re.M)]


def test_the_table_has_the_nearest_first_and_the_distances_of_the_package(nearest, results):
    fresh, trained = results
    _, _, first, second = rows(nearest.to_markdown())
    assert trained.nats < fresh.nats
    assert (first[0], second[0]) == ("demo:vit", "random:demo:vit")
    for cells, result in ((first, trained), (second, fresh)):
        for cell, nats, error in (
            (cells[1], result.nats / 48, result.stderr_nats / 48),
            (cells[2], result.a_given_b.nats / 48, result.a_given_b.stderr_nats / 48),
            (cells[3], result.b_given_a.nats / 48, result.b_given_a.stderr_nats / 48),
            (cells[4], result.nats, result.stderr_nats),
        ):
            told, error_told = map(float, cell.split(" ± "))
            assert told == pytest.approx(nats / math.log(2), abs=error) and error_told == pytest.approx(
                error / math.log(2), rel=0.15
            )


def test_the_data_hold_every_figure_and_setting(nearest, results):
    data = yaml.safe_load(nearest.to_yaml())
    assert data == json.loads(json.dumps(nearest.to_dict()))
    assert data["schema"] == "infodist.card/1" and data["model"]["id"] == "demo:cnn"
    assert data["images"]["fingerprint"] == results[0].images.fingerprint and data["protocol"]["name"] == "standard"
    (entry, _), trained = data["nearest"], results[1]
    assert (entry["nats"], entry["bits"]) == (trained.nats, trained.bits)
    assert (entry["this_given_it"], entry["it_given_this"]) == (trained.a_given_b.nats, trained.b_given_a.nats)
    assert entry["model"]["weights"] == trained.model_b.weights


def test_the_command_of_several_orders_says_so(capsys):
    models = ("card", "demo:cnn", "--among", "demo:vit")
    shown = run(capsys, *models, "-i", "digits", "-k", "32", "-p", "standard", "--orders", "2")
    assert "--orders 2" in shown.partition("```bash")[2] and "orders: 2" in shown


def test_the_section_tells_the_command_that_makes_it(nearest, capsys):
    (command,) = re.findall(r"^infodist (card .*)$", nearest.to_markdown(), re.M)
    made = json.loads(run(capsys, *command.split(), "--json"))
    assert made["nearest"] == nearest.to_dict()["nearest"]


def test_repositories_are_named_and_linked_at_their_commit(nearest, results):
    commit = "0123456789abcdef" * 2 + "01234567"
    b = replace(results[0].model_b, id="acme/b_1@v1", revision=commit)
    hub = replace(results[0], model_b=b, images=replace(results[0].images, id="acme/photos", revision=commit))
    section = NearestCheckpoints.of([hub]).to_markdown()
    assert f"[acme/b\\_1@v1](https://huggingface.co/acme/b_1/tree/{commit})" in section
    assert f"--among acme/b_1@{commit} --images acme/photos@{commit} " in section
    timm = replace(hub, model_b=replace(b, id="timm:resnet18"))
    assert "--among timm:resnet18 --images" in NearestCheckpoints.of([timm]).to_markdown()


@pytest.mark.parametrize("change", ["model", "images", "protocol"])
def test_distances_that_cannot_be_compared_get_no_table(results, change):
    one, other = results
    other = {
        "model": replace(other, model_a=ModelRecord("acme/x", "timm", None, 10, "", {})),
        "images": replace(other, images=replace(other.images, fingerprint="another")),
        "protocol": replace(other, protocol=replace(other.protocol, passes=7)),
    }[change]
    with pytest.raises(UnfitError, match="do not go into one table"):
        NearestCheckpoints.of([one, other])


@pytest.mark.parametrize("before", ["", "# A model\n", "---\nlicense: mit\n---\n\n# A model\n\nText.\n\n\n"])
def test_a_section_is_added_at_the_end_and_replaced_where_it_is(nearest, results, before):
    old, new = NearestCheckpoints.of(results[:1]).to_markdown(), nearest.to_markdown()
    once = insert_section(before, old)
    assert once.startswith(before.rstrip()) and once.endswith(f"{old}\n")
    later = f"{once}\n## More\n"
    twice = insert_section(later, new)
    assert twice == later.replace(old, new) and twice.count("## Nearest checkpoints") == 1
    assert insert_section(twice, new) == twice


def test_a_folder_gets_the_section_and_the_data(nearest, tmp_path):
    (tmp_path / "README.md").write_text("# A model\n")
    for _ in range(2):
        write_section(nearest, tmp_path)
    written = (tmp_path / "README.md").read_text()
    assert written == f"# A model\n\n{nearest.to_markdown()}\n"
    assert (tmp_path / "infodist.yaml").read_text() == nearest.to_yaml()


def test_the_command_shows_the_section_and_sends_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(card, "open_pull_request", lambda *_: pytest.fail("a pull request was opened"))
    words = ["demo:cnn", "--among", "demo:vit", "--images", "digits", "-k", "32", "-p", "standard"]
    shown = run(capsys, "card", *words, "--into", str(tmp_path / "new"))
    assert (tmp_path / "new" / "README.md").read_text() in shown
    assert (tmp_path / "new" / "infodist.yaml").read_text() in shown


def test_bad_names_are_refused_before_anything_is_compared():
    with pytest.raises(UsageError, match="named twice"):
        check_comparisons("demo:cnn", ["demo:vit", "demo:cnn"])
    with pytest.raises(NotFoundError, match="demo:cnn, demo:vit"):
        check_comparisons("demo:cnn", ["demo:vit", "demo:nobody"])


def test_a_pull_request_needs_a_repository_public_names_and_a_token(monkeypatch, tmp_path):
    repositories = {"acme/a": "acme/a"}
    monkeypatch.setattr(card, "locate", lambda name, **_: Source(name, repo=repositories.get(name, "")))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    for model, among, images, said in (
        ("demo:cnn", ["demo:vit"], "digits", "in no repository"),
        ("acme/a", [str(tmp_path)], "digits", "on this machine only"),
        ("acme/a", ["demo:vit"], str(tmp_path), "on this machine only"),
        ("acme/a", ["demo:vit"], "digits", "nobody is signed in"),
    ):
        with pytest.raises(UsageError, match=said):
            check_pull_request(model, among, images)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    assert check_pull_request("acme/a", ["demo:vit"], "digits") == "acme/a"
