"""What checkpoints save on labels, in the files that the Hub reads evaluation results from."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from huggingface_hub import eval_result_entries_to_yaml, parse_eval_result_entries
from scipy.stats import entropy
from test_cli import run

from hf_infodist.distances import transfer
from hf_infodist.errors import UsageError
from hf_infodist.images.sample import load_labelled_images
from hf_infodist.results.eval_results import TASK, entry, hub_dataset, write_eval_results

K, COMMIT = 40, "a" * 40
NAMES = ["random:demo:cnn", "demo:cnn"]
DIGITS = load_labelled_images("digits", k=K)
PHOTOS = replace(DIGITS, id="acme/photos@v1", revision=COMMIT, split="train")


@pytest.fixture(scope="module")
def ranking():
    return transfer.rank_checkpoints(NAMES, PHOTOS)


def read(file):
    """Read a file as the Hub's own library does."""
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    (found,) = parse_eval_result_entries(data)
    assert eval_result_entries_to_yaml([found]) == data  # nothing is in it that the library does not know
    return found


def test_the_library_of_the_hub_reads_what_is_written(ranking, tmp_path):
    files = write_eval_results(ranking, tmp_path / "results")
    assert [file.name for file in files] == ["demo--cnn.yaml", "random--demo--cnn.yaml"]
    frequencies = entropy([DIGITS.labels.count(label) for label in range(10)])
    for file, one in zip(files, ranking.candidates, strict=True):
        found = read(file)
        assert (found.dataset_id, found.dataset_revision, found.task_id) == ("acme/photos", COMMIT, TASK)
        assert found.value == pytest.approx(frequencies - one.image_nats.mean(), abs=1e-6)
        assert timedelta() <= datetime.now(UTC) - datetime.fromisoformat(found.date) < timedelta(minutes=5)
        for said in ("larger is better", f"{K} labels, split train, seed 0", "protocol standard"):
            assert said in found.notes
    assert read(files[0]).value > read(files[1]).value > 0  # of a trained network, and of a random one


def test_models_whose_files_would_have_one_name_keep_both(ranking, tmp_path):
    names = ("acme/photos", "acme--photos")
    models = (
        replace(one, model=replace(one.model, id=name)) for one, name in zip(ranking.candidates, names, strict=True)
    )
    files = write_eval_results(replace(ranking, candidates=tuple(models)), tmp_path)
    assert [file.name for file in files] == ["acme--photos.yaml", "acme--photos-2.yaml"]
    assert read(files[0]).value > read(files[1]).value


def test_what_is_not_known_is_left_out(ranking):
    found = entry(replace(ranking, images=replace(ranking.images, id="acme/photos", revision=None)), ranking.best)
    assert found["dataset"] == {"id": "acme/photos", "task_id": TASK}


@pytest.mark.parametrize("name", ["acme/photos", " acme/photos@v1 ", "https://huggingface.co/datasets/acme/photos"])
def test_a_dataset_of_the_hub_is_named_in_many_ways(name):
    assert hub_dataset(name) == "acme/photos"


@pytest.mark.parametrize("images", ["digits", "acme/photos", "./photos", "/photos", "photos", "a/b/c", "", [1, 2]])
def test_images_from_elsewhere_are_refused(images, tmp_path, monkeypatch):
    (tmp_path / "acme" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        hub_dataset(images)
    assert caught.value.fix == "give a dataset by --images org/name, or leave out --eval-results"


def test_the_command_writes_a_file_for_each_model_where_it_is_asked_to(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "load_labelled_images", lambda *_: PHOTOS)
    words = ("transfer", *NAMES, "-i", "acme/photos@v1", "-k", K)
    code, _, err = run(capsys, *words, "--eval-results", tmp_path / "results")
    written = sorted((tmp_path / "results").iterdir())
    assert code == 0 and [read(file).dataset_id for file in written] == ["acme/photos"] * 2
    assert all(str(file) in err for file in written)


def test_the_command_refuses_other_images_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "load_labelled_images", lambda *_: pytest.fail("it was opened"))
    code, _, err = run(capsys, "transfer", *NAMES, "-i", "digits", "-k", K, "--eval-results", tmp_path / "results")
    assert code == 2 and len(err.splitlines()) == 3 and "digits is no dataset of the Hub" in err
    assert not (tmp_path / "results").exists()
