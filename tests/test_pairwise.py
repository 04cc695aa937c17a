"""A matrix of models: the record, and how it is filled."""

import json
import shutil

import numpy as np
import pytest

from hf_infodist.cli import main
from hf_infodist.distances import code
from hf_infodist.distances.distance import information_distance
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.models.names import DEMO
from hf_infodist.outputs import forward as outputs
from hf_infodist.pair import Execution
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.results.records import ImagesRecord, ModelRecord

IMAGES = ImagesRecord("digits", None, None, "image", 48, 0, "f")


def record(name):
    return ModelRecord(name, "timm", None, 10, name, {"library": "timm", "input_size": [3, 8, 8]})


def matrix(nats, errors=None, protocol=PROTOCOLS["standard"], names="abc", twins=()):
    models = tuple(record(name) for name in names)
    nats = np.array(nats, dtype=float)
    return PairwiseMatrix(models, nats, nats / 10, "infodist", IMAGES, protocol, errors or {}, twins)


NATS = [[0, 1 / 3, 5], [2, 0, np.nan], [3, 0.1, 0]]


def test_the_distance_is_the_larger_direction_and_unknown_unless_both_are_there():
    distances = matrix(NATS).distances
    assert distances[0, 1] == distances[1, 0] == 2 and distances[0, 2] == 5
    assert np.isnan(distances[1, 2]) and np.isnan(distances[2, 1]) and not np.diag(distances).any()


def test_a_matrix_comes_back_from_json_to_the_bit():
    first = matrix(NATS, {(1, 2): "it diverged"}, twins=((0, 1),))
    again = PairwiseMatrix.from_dict(json.loads(json.dumps(first.to_dict(), allow_nan=False)))
    assert np.array_equal(again.nats, first.nats, equal_nan=True)
    assert np.array_equal(again.stderr_nats, first.stderr_nats, equal_nan=True)
    assert (again.models, again.images, again.protocol, again.errors, again.twins) == (
        (first.models, first.images, first.protocol, first.errors, first.twins)
    )


def test_something_else_is_refused():
    with pytest.raises(UnfitError, match="infodist matrix"):
        PairwiseMatrix.from_dict({"schema": "infodist.result/1"})
    with pytest.raises(UnfitError, match="one row and one column"):
        matrix(NATS, names="ab")


def test_the_table_tells_a_failed_pair_from_a_missing_one():
    text = str(matrix(NATS, {(1, 2): "it diverged"}))
    assert "failed" in text and "1 given 2 failed: it diverged" in text and "missing" not in text
    assert "0 and 1 are the same network" in str(matrix(NATS, twins=((0, 1),)))
    assert "missing" in str(matrix(NATS)) and not matrix(NATS).complete


# Filling it


NAMES = ["demo:cnn", "demo:vit", "random:demo:cnn"]
TINY = {"k": 48, "protocol": "standard"}


def run(**options):
    return pairwise_distances(NAMES, "digits", **TINY | options)


def same(a, b):
    return a.nats.tobytes() == b.nats.tobytes() and a.stderr_nats.tobytes() == b.stderr_nats.tobytes()


@pytest.fixture
def counts(monkeypatch):
    """Count the codelengths that are computed, and the runs of models."""
    counts = {"codes": 0, "models": 0}

    def counted(name, function):
        def count(*args, **options):
            counts[name] += 1
            return function(*args, **options)

        return count

    monkeypatch.setattr(code, "train_codelength", counted("codes", code.train_codelength))
    monkeypatch.setattr(outputs, "_write_outputs", counted("models", outputs._write_outputs))
    return counts


def test_each_model_is_run_once_and_a_rerun_computes_nothing(counts, caplog):
    caplog.set_level("INFO")
    states = []
    first = run(on_status=states.append)
    assert counts == {"codes": 6, "models": 3} and "3 models, 3 to run" in caplog.text
    assert states[-1].over and (states[-1].done, states[-1].failed, states[-1].passes) == (6, 0, (3, 3))
    assert first.complete and (first.nats > 0).sum() == 6 and not first.errors
    assert same(run(), first) and counts == {"codes": 6, "models": 3}
    assert "6 found in the store, 0 to compute" in caplog.text


def test_an_entry_is_what_compare_says_of_the_pair(tmp_path):
    result = information_distance(*NAMES[:2], "digits", execution=Execution(home=tmp_path), **TINY)
    entries = run()
    assert entries.nats[0, 1] == result.a_given_b.nats and entries.nats[1, 0] == result.b_given_a.nats
    assert entries.distances[0, 1] == result.nats and entries.stderr_nats[0, 1] == result.a_given_b.stderr_nats


def test_shards_share_the_work_and_together_are_the_whole(counts):
    parts = [run(shard=(number, 4)) for number in (1, 2, 3, 4)]
    assert counts["codes"] == 6 and counts["models"] == 3
    assert [int(np.isfinite(part.nats).sum()) for part in parts] == [5, 7, 8, 9]  # three of them on the diagonal
    assert same(run(), parts[-1])


def test_a_failed_pair_is_a_row_and_the_rest_goes_on(monkeypatch, counts):
    train = code.train_codelength

    def diverge(pair, direction, *args, **options):
        (student, _), (teacher, _) = pair.ends(direction)
        if (teacher.id, student.id) == ("demo:vit", "demo:cnn"):
            raise UnfitError("it diverged", "its loss is not finite", "use probe")
        return train(pair, direction, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(code, "train_codelength", diverge)
        failed = run()
    assert failed.errors == {(1, 0): "it diverged its loss is not finite"} and counts["codes"] == 5
    assert np.isnan(failed.nats[1, 0]) and np.isfinite(failed.nats).sum() == 8
    again = run()  # gets another chance, and only that
    assert not again.errors and counts["codes"] == 6


def test_a_model_that_cannot_be_run_costs_only_its_own_pairs(monkeypatch):
    write = outputs._write_outputs

    def refuse(folder, classifier, *args):
        if classifier.id == "demo:vit":
            raise UnfitError("logits of image 3 are not finite", "NaN has no probability", "check it")
        write(folder, classifier, *args)

    monkeypatch.setattr(outputs, "_write_outputs", refuse)
    matrix = run()
    assert matrix.errors.keys() == {(0, 1), (1, 0), (1, 2), (2, 1)} and np.isfinite(matrix.nats[0, 2])


def test_one_network_under_two_names_is_not_run_twice(counts, tmp_path):
    shutil.copytree(DEMO / "cnn", tmp_path / "copy")
    matrix = pairwise_distances([*NAMES[:2], str(tmp_path / "copy")], "digits", **TINY)
    assert matrix.twins == ((0, 2),) and counts == {"codes": 2, "models": 2}
    assert matrix.distances[0, 2] == 0 and np.array_equal(matrix.nats[1, [0, 2]], [matrix.nats[1, 0]] * 2)


def test_a_baseline_is_a_matrix_of_distances():
    matrix = run(measure="linear cka")
    assert matrix.measure == "representation/linear CKA" and matrix.protocol is None and matrix.complete
    assert np.array_equal(matrix.nats, matrix.nats.T) and 0 < matrix.nats[0, 1] < 1 and not np.diag(matrix.nats).any()
    directed = run(measure="KL(A‖B)")
    assert directed.nats[0, 2] != directed.nats[2, 0]
    weights = run(measure="parameter/L2")
    assert weights.nats[0, 2] > 0 and set(weights.errors) == {(0, 1), (1, 0), (1, 2), (2, 1)}


@pytest.mark.parametrize(
    ("options", "clue"),
    [
        ({"measure": "L2"}, "names 3 measures|names 2 measures"),
        ({"measure": "CKAA"}, "no measure"),
        ({"shard": (3, 2)}, "no shard 3/2"),
        ({"workers": 0}, "0 workers"),
        ({"engine": "spark"}, "local and ray"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options, clue):
    with pytest.raises(UsageError, match=clue):
        run(**options)


def test_names_are_checked_before_anything_is_done(counts):
    for names in (["demo:cnn"], ["demo:cnn", "demo:cnn"], ["demo:cnn", "demo:cn"]):
        with pytest.raises((UsageError, NotFoundError)):
            pairwise_distances(names, "digits", **TINY)
    assert counts == {"codes": 0, "models": 0}


def test_the_command_reads_names_from_a_file_and_its_exit_code_tells(tmp_path, capsys, monkeypatch):
    (tmp_path / "models.txt").write_text("demo:cnn  # ours\n\ndemo:vit\n")
    words = ["matrix", str(tmp_path / "models.txt"), "-i", "digits", "-k", "48", "-p", "standard"]
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*words, "-o", str(tmp_path / "matrix.json")])
    out, err = capsys.readouterr()
    assert "demo:vit" in out and "2 of 2 done" in err and "2 of 2 models run" in err
    first = PairwiseMatrix.from_dict(json.loads((tmp_path / "matrix.json").read_text()))
    assert same(first, pairwise_distances(NAMES[:2], "digits", **TINY))
    monkeypatch.setattr(code, "train_codelength", lambda *args, **options: 1 / 0)
    with pytest.raises(SystemExit, match=r"^4$"):
        main([*words, "--seed", "1", "--json"])
    assert len(json.loads(capsys.readouterr().out)["errors"]) == 2


@pytest.mark.slow
def test_several_workers_give_the_same_bits_and_run_each_model_once(tmp_path):
    one = run(execution=Execution(home=tmp_path / "one"))
    two = run(execution=Execution(home=tmp_path / "two"), workers=2)
    assert same(one, two)
