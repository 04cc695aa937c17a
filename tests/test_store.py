"""The store gives back what was put in, to the bit; what it cannot read it keeps and says so."""

import json
import math
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from hf_infodist import pair as pairs
from hf_infodist.distances import code
from hf_infodist.distances.distance import codelength, information_distance
from hf_infodist.errors import NotFoundError, UsageError
from hf_infodist.pair import Execution
from hf_infodist.protocol import CODING_VERSION, PROTOCOLS, CodingProtocol
from hf_infodist.results.codelength import Codelength, LearnerRecord
from hf_infodist.results.records import ImagesRecord, ModelRecord
from hf_infodist.results.store import CodelengthRecord, Store, read_record

TINY = {"k": 48, "protocol": "standard"}
MODEL = ModelRecord("demo:cnn", "timm", None, 10, "w", {"library": "timm", "mean": [0.1, 0.2, 0.3]})
IMAGES = ImagesRecord("digits", None, None, "image", 4, 0, "f")


def record(key="a" * 32, nats=(0.1, 1 / 3, 1e-300, 2.0)):
    code = Codelength(
        image_nats=np.array(nats),
        static_nats=math.nan,
        marginal_nats=7 / 3,
        learners=(LearnerRecord("uniform", math.inf, 4, 0.0, 0), LearnerRecord("static", 1.5, 2, 1.0, 8)),
        block_ends=(2, 4),
        epsilon=0.05,
        seconds=0.25,
        order_nats=(2.5, 2.25),
        order_stderr_nats=(math.nan, 0.5),
    )
    return CodelengthRecord(key, MODEL, replace(MODEL, id="demo:vit"), IMAGES, PROTOCOLS["standard"], code, "cpu")


def test_a_record_comes_back_to_the_bit(tmp_path):
    first = record()
    Store(tmp_path).put(first)
    again = Store(tmp_path).get(first.key)
    for name in ("key", "teacher", "student", "images", "protocol", "device", "versions", "made"):
        assert getattr(again, name) == getattr(first, name)
    assert again.codelength.image_nats.tobytes() == first.codelength.image_nats.tobytes()
    assert again.codelength.image_nats.dtype == np.float64
    assert again.codelength.image_nats.tobytes() == first.codelength.image_nats.tobytes()
    assert repr(vars(again.codelength) | {"image_nats": 0}) == repr(vars(first.codelength) | {"image_nats": 0})
    json.loads((tmp_path / f"{first.key}.json").read_text(), parse_constant=pytest.fail)  # plain JSON


def test_what_is_there_is_never_written_over(tmp_path):
    store, first, other = Store(tmp_path), record(), record(nats=(9, 9, 9, 9))
    assert store.put(first) is first and store.put(other).same_number(first)
    assert store.get(first.key).same_number(first) and not first.same_number(other)
    assert [path.name for path in tmp_path.iterdir()] == [f"{first.key}.json"]


def cut(path):
    path.write_text(path.read_text()[:-9])


def change_a_digit(path):
    path.write_text(path.read_text().replace("1e-300", "2e-300"))


def rename(path):
    path.rename(path.with_name(f"{'b' * 32}.json"))


def take_something_else(path):
    path.write_text('{"schema": "infodist.result/1"}')


def write_noise(path):
    path.write_bytes(bytes(range(256)))


@pytest.mark.parametrize("damage", [cut, change_a_digit, rename, take_something_else, write_noise])
def test_a_file_that_cannot_be_read_is_moved_aside_and_said(tmp_path, caplog, damage):
    store = Store(tmp_path)
    store.put(record())
    damage(next(tmp_path.glob("*.json")))
    (path,) = tmp_path.glob("*.json")
    content = path.read_bytes()
    assert store.get(path.stem) is None
    assert path.with_name(f"{path.name}.unreadable").read_bytes() == content
    assert str(path) in caplog.text and ".unreadable" in caplog.text
    store.put(record(path.stem))
    assert store.get(path.stem) and len(list(tmp_path.glob("*.unreadable"))) == 1


def test_two_unreadable_files_of_one_name_are_both_kept(tmp_path):
    for text in "xy":
        (tmp_path / f"{'a' * 32}.json").write_text(text)
        assert Store(tmp_path).get("a" * 32) is None
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["x", "y"]


def _put_many(folder, writer, barrier):
    barrier.wait()
    for number in range(20):
        Store(folder).put(record(f"{number:032}", (number, writer, 0.0, 0.0)))


def test_many_writers_leave_whole_records_of_one_of_them(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    writers = [context.Process(target=_put_many, args=(tmp_path, writer, barrier)) for writer in range(4)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * 4
    assert len(list(Store(tmp_path).records())) == 20 == len(list(tmp_path.iterdir()))


def test_a_key_is_found_by_its_start(tmp_path):
    store = Store(tmp_path)
    for key in ("ab" + "0" * 30, "ac" + "0" * 30):
        store.put(record(key))
    assert store.find("ab").key == "ab" + "0" * 30
    with pytest.raises(UsageError, match="2 begin with it"):
        store.find("a")
    with pytest.raises(NotFoundError, match="infodist results ls"):
        store.find("x")


def test_merging_takes_what_is_new_and_reports_what_differs(tmp_path):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    keys = [letter * 32 for letter in "abc"]
    here.put(record(keys[0])), here.put(record(keys[1]))
    there.put(record(keys[0])), there.put(record(keys[1], (9, 9, 9, 9))), there.put(record(keys[2]))
    (there.folder / "damaged.json").write_text("{")
    merged = here.merge(there.folder)
    assert (merged.same, merged.conflicts, merged.new) == ((keys[0],), (keys[1],), (keys[2],))
    assert merged.unreadable == ("damaged.json",) and (there.folder / "damaged.json").exists()
    assert here.keys() == keys and here.get(keys[1]).same_number(record())
    with pytest.raises(NotFoundError):
        here.merge(tmp_path / "nowhere")


# A comparison and the store


@pytest.fixture
def runs(monkeypatch):
    """Count the runs of models and the codelengths that are computed."""
    counts = {"models": 0, "codes": 0}
    compute, train = pairs.compute_outputs, code.train_codelength

    def count(name, function):
        def counted(*args, **options):
            counts[name] += 1
            return function(*args, **options)

        return counted

    monkeypatch.setattr(pairs, "compute_outputs", count("models", compute))
    monkeypatch.setattr(code, "train_codelength", count("codes", train))
    return counts


def test_a_hit_is_returned_to_the_bit_and_said_and_no_model_is_run(runs, caplog):
    caplog.set_level("INFO")
    first = information_distance("demo:cnn", "demo:vit", "digits", **TINY)
    assert runs == {"models": 2, "codes": 2} and "found in the store" not in caplog.text
    again = information_distance("demo:vit", "demo:cnn", "digits", **TINY)
    assert runs == {"models": 2, "codes": 2} and caplog.text.count("found in the store") == 2
    assert again.a_given_b.image_nats.tobytes() == first.b_given_a.image_nats.tobytes()
    assert again.b_given_a.learners == first.a_given_b.learners


@pytest.mark.parametrize("change", [{"k": 40}, {"seed": 1}, {"protocol": "sampled"}, {"orders": 2}])
def test_anything_that_changes_the_number_misses(runs, change):
    codelength("demo:cnn", "demo:vit", "digits", **TINY)
    codelength("demo:cnn", "demo:vit", "digits", **TINY | change)
    assert runs["codes"] > 1


def test_newer_coding_misses(runs, monkeypatch):
    codelength("demo:cnn", "demo:vit", "digits", **TINY)
    monkeypatch.setattr(CodingProtocol, "coding", property(lambda protocol: CODING_VERSION + 1))
    codelength("demo:cnn", "demo:vit", "digits", **TINY)
    assert runs["codes"] == 2


def test_fresh_computes_again_and_says_if_the_store_differs(runs, caplog, store):
    first = codelength("demo:cnn", "demo:vit", "digits", **TINY)
    options = TINY | {"execution": Execution(fresh=True)}
    assert np.array_equal(codelength("demo:cnn", "demo:vit", "digits", **options).image_nats, first.image_nats)
    assert runs["codes"] == 2 and "kept" not in caplog.text
    (path,) = (store / "codelengths").iterdir()
    kept = read_record(path)
    path.unlink()
    Store().put(replace(kept, codelength=replace(first, image_nats=first.image_nats + 1)))
    assert codelength("demo:cnn", "demo:vit", "digits", **options).nats == first.nats
    assert "kept" in caplog.text and Store().get(kept.key).codelength.nats == pytest.approx(first.nats + 48)


def test_between_a_model_and_itself_both_directions_are_one(runs, store):
    information_distance("demo:cnn", "demo:cnn", "digits", **TINY)
    assert runs["codes"] == 1 and len(list((store / "codelengths").iterdir())) == 1


GOLDEN = {("demo:cnn", "demo:vit"): 1.3964217119180276, ("demo:vit", "demo:cnn"): 1.2675890497668634}


@pytest.mark.parametrize(("teacher", "student"), GOLDEN)
def test_numbers_are_those_of_this_coding_version(teacher, student):
    """Fails when a change of the code changes the number."""
    nats = codelength(teacher, student, "digits", **TINY).nats
    assert nats == pytest.approx(GOLDEN[teacher, student], rel=1e-6), (
        "the number has changed: raise protocol.CODING_VERSION, or stores go on giving out the old one; "
        "then write the new nats here"
    )
