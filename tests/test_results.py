"""The commands about results that are kept."""

import hashlib
import json
from dataclasses import replace

import pytest

from hf_infodist.cli import main
from hf_infodist.coding.keys import codelength_key_of
from hf_infodist.distances.distance import information_distance
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.store import Store


@pytest.fixture
def records():
    information_distance("demo:cnn", "demo:vit", "digits", k=48, protocol="standard")
    return list(Store().records())


def results(capsys, *words, rc=0):
    with pytest.raises(SystemExit, match=f"^{rc}$"):
        main(["results", *map(str, words)])
    return capsys.readouterr()


def alter(store, record):
    """Put another number under the key of a record."""
    code = record.codelength
    store.put(replace(record, codelength=replace(code, image_nats=code.image_nats * (1 + 1e-5))))
    return record.key


def test_results_are_listed_and_shown(records, capsys):
    in_time = sorted(records, key=lambda record: record.made)
    header, *listed = results(capsys, "ls").out.splitlines()
    assert "made" in header.split() and [line.split()[0] for line in listed] == [one.key[:8] for one in in_time]
    assert results(capsys, "ls", "-q").out.split() == [one.key for one in in_time]
    told = json.loads(results(capsys, "ls", "--json").out)["results"]
    assert [one["nats"] for one in told] == [one.codelength.nats for one in in_time]
    shown = results(capsys, "show", records[0].key[:6], "--json").out
    assert json.loads(shown)["codelength"]["image_nats"] == records[0].codelength.image_nats.tolist()
    assert "no result 'x'" in results(capsys, "show", "x", rc=3).err


def test_a_number_that_comes_out_again_is_verified_and_one_that_does_not_is_told(records, capsys):
    assert results(capsys, "verify").out.count("same  ") == 2
    (Store().folder / f"{records[0].key}.json").unlink()
    alter(Store(), records[0])
    out = results(capsys, "verify", rc=4).out.splitlines()
    assert out[0].startswith("DIFFERENT") and "all versions are as they were" in out[0] and out[1].startswith("same")
    assert results(capsys, "verify", records[1].key).out.startswith("same")


def test_what_cannot_be_computed_again_says_why(records, capsys):
    lost = replace(records[0], key="0" * 32, teacher=replace(records[0].teacher, id="./gone"))
    Store().put(replace(lost))
    Store().put(replace(records[0], key="1" * 32, teacher=replace(records[0].teacher, weights="other")))
    assert "./gone" in results(capsys, "verify", "00", rc=4).out
    assert f"{records[0].teacher.id} has changed" in results(capsys, "verify", "11", rc=4).out


def test_another_folder_is_merged_and_conflicts_are_reported_and_left(records, capsys, tmp_path):
    other = Store(tmp_path / "other" / "codelengths")
    key = alter(other, records[0])
    other.put(replace(records[1], key="2" * 32))
    said = results(capsys, "merge", tmp_path / "other", rc=4)
    assert "1 taken over, 0 there already" in said.out and f"conflict: {key}" in said.err
    assert Store().get(key).same_number(records[0]) and Store().get("2" * 32).same_number(records[1])


def test_results_of_the_first_version_are_told_apart_and_found_by_nobody(records, capsys, store):
    path = store / "codelengths" / f"{records[0].key}.json"
    body = json.loads(path.read_text())
    del body["sha256"], body["coding"]  # as the first version wrote them
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(body | {"sha256": digest}))
    listed = results(capsys, "ls")
    assert sum("version 1 " in line for line in listed.out.splitlines()) == 1
    assert "1 of 2 are of an earlier version" in listed.err
    assert "another version of the coding" in results(capsys, "verify", records[0].key, rc=4).out
    assert codelength_key_of(["a", "b"], ("xy", "xy"), records[0].protocol, "cpu") != first_version_key(
        ["a", "b"], records[0].protocol
    )


def test_protocols_of_the_first_version_can_still_be_read(records, capsys, store):
    """Their learners include four heads, a kind that is no more."""
    old = {"lr": 0.0, "batchnorm": "frozen", "step": "relative", "prior": 1.0, "prior_if_named": None}
    heads = [old | {"kind": "head", "lr": lr} for lr in (0.1, 0.3, 1.0, 3.0)]
    body = records[0].to_dict()
    body["protocol"] |= {"name": "probe", "learners": [old | {"kind": "static"}, *heads]}
    del body["coding"]
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (store / "codelengths" / f"{body['key']}.json").write_text(json.dumps(body | {"sha256": digest}))
    listed = results(capsys, "ls")
    assert "probe" in listed.out and "cannot be read" not in listed.err
    assert not list((store / "codelengths").glob("*.unreadable"))
    assert json.loads(results(capsys, "show", body["key"], "--json").out)["protocol"]["learners"][1]["lr"] == 0.1


def first_version_key(outputs, protocol):
    fields = {"coding": 1, "outputs": outputs, "rows": [0, 1], "protocol": protocol.to_dict() | {"name": ""}}
    return hashlib.sha256(json.dumps(fields | {"device": "cpu"}, sort_keys=True).encode()).hexdigest()[:32]


def test_closed_forms_agree_up_to_round_off_and_fine_tuning_to_the_bit(records):
    record = records[0]
    near = replace(record.codelength, image_nats=record.codelength.image_nats * (1 + 1e-9))
    assert record.same_number(replace(record, codelength=near))
    trained = replace(record, protocol=PROTOCOLS["paper"])
    assert trained.same_number(trained) and not trained.same_number(replace(trained, codelength=near))
