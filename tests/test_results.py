"""The commands about results that are kept."""

import json
from dataclasses import replace

import pytest

from hf_infodist.cli import main
from hf_infodist.distance import information_distance
from hf_infodist.store import Store


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
    store.put(replace(record, codelength=replace(code, image_nats=code.image_nats * (1 + 1e-15))))
    return record.key


def test_results_are_listed_and_shown(records, capsys):
    listed = results(capsys, "ls").out.splitlines()
    assert listed == [str(record) for record in records] and len(listed) == 2
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
    said = results(capsys, "merge", tmp_path / "other", rc=4).err
    assert "1 taken over, 0 there already" in said and f"conflict: {key}" in said
    assert Store().get(key).same_number(records[0]) and Store().get("2" * 32).same_number(records[1])
