"""An atlas says what its models would: the same numbers, of models that nobody has at hand."""

import json
import shutil
from dataclasses import replace

import networks
import numpy as np
import pytest
import typer
from atlases import told

from hf_infodist.analysis import atlas as atlases
from hf_infodist.analysis import from_atlas
from hf_infodist.analysis.atlas import add_models, head_of, load_atlas_images, verify_member
from hf_infodist.analysis.from_atlas import atlas_distances, nearest_in_atlas, protocol_of
from hf_infodist.cli import atlas_exchange
from hf_infodist.coding.kernels import LANDMARKS
from hf_infodist.distances.distance import information_distance
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.images.sample import load_images
from hf_infodist.models.load import load_classifier
from hf_infodist.models.names import DEMO
from hf_infodist.outputs.forward import compute_outputs
from hf_infodist.pair import Execution
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.atlas.files import write_file
from hf_infodist.results.atlas.folder import Atlas
from hf_infodist.results.atlas.packing import SQUARES

MODELS = ("demo:cnn", "demo:vit", "random:demo:cnn", "random:demo:vit")
K = 96
CLOSE = 1e-3  # what packing may change


@pytest.fixture(scope="module")
def execution(tmp_path_factory):
    return Execution(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def digits():
    return load_images("digits", k=K)


@pytest.fixture(scope="module")
def made(tmp_path_factory, digits, execution):
    """An atlas of the demo models, as it was made."""
    atlas = Atlas.begin(tmp_path_factory.mktemp("atlas"), head_of(digits))
    assert add_models(atlas, MODELS, digits, execution=execution).new == MODELS
    return Atlas.open(atlas.folder)


@pytest.fixture
def atlas(made, tmp_path):
    """A copy of it."""
    return Atlas.open(shutil.copytree(made.folder, tmp_path / "atlas"))


def without(atlas, *names):
    """Take models out of an atlas."""
    for name in names:
        atlas.find(name).path.unlink()
    return Atlas.open(atlas.folder)


def nats(result):
    return [result.nats, result.a_given_b.nats, result.b_given_a.nats]


def names(results):
    return [one.model_b.id for one in results]


# The same numbers


def test_a_new_model_is_placed_where_comparing_it_with_each_places_it(atlas, execution):
    placed = nearest_in_atlas(without(atlas, "demo:cnn"), "demo:cnn", None, execution=execution)
    assert sorted(names(placed)) == sorted(MODELS[1:])
    for one in placed:
        whole = information_distance("demo:cnn", one.model_b.id, "digits", k=K, execution=execution)
        assert nats(one) == pytest.approx(nats(whole), rel=CLOSE)
        assert one.model_a == whole.model_a and one.model_b == whole.model_b and one.images == whole.images


def test_the_matrix_of_an_atlas_is_that_of_its_models(made, execution):
    packed = atlas_distances(made, execution=execution)
    whole = pairwise_distances([one.id for one in packed.models], "digits", k=K, execution=execution)
    assert packed.complete and np.allclose(packed.nats, whole.nats, rtol=CLOSE, atol=1e-9)
    assert packed.models == whole.models and packed.images == whole.images
    some = atlas_distances(made, MODELS[:2], execution=execution)
    assert [one.id for one in some.models] == list(MODELS[:2])


def test_a_model_of_the_atlas_is_placed_without_images(atlas, execution, monkeypatch):
    outside = nearest_in_atlas(without(atlas, "demo:cnn"), "demo:cnn", None, execution=execution)
    for name in ("load_classifier", "load_atlas_images"):
        monkeypatch.setattr(from_atlas, name, lambda *args, **options: pytest.fail("something is loaded"))
    atlas = Atlas.open(atlas.folder)
    shutil.copy(_source(outside, atlas, execution), atlas.models)
    inside = nearest_in_atlas(Atlas.open(atlas.folder), "demo:cnn", None, execution=execution)
    assert names(inside) == names(outside)
    assert [nats(one) for one in inside] == [pytest.approx(nats(one), rel=2 * CLOSE) for one in outside]


def _source(outside, atlas, execution):
    """Return the file of the model that was placed, made anew."""
    images = load_images("digits", k=K)
    classifier = load_classifier("demo:cnn")
    outputs = compute_outputs(classifier, images, home=execution.home)
    return atlases.write_outputs(atlas.folder, classifier, outputs, images)


@pytest.mark.slow
def test_weights_of_others_may_be_gone(digits, execution, tmp_path, monkeypatch):
    first, second = (tmp_path / name for name in ("first", "second"))
    shutil.copytree(DEMO / "cnn", first)
    shutil.copytree(DEMO / "vit", second)
    atlas = Atlas.begin(tmp_path / "atlas", head_of(digits))
    add_models(atlas, [str(first), str(second)], digits, execution=Execution(home=tmp_path / "home"))
    for folder in (first, second, tmp_path / "home"):
        shutil.rmtree(folder)
    loaded = []
    monkeypatch.setattr(from_atlas, "load_classifier", lambda name: loaded.append(name) or load_classifier(name))
    placed = nearest_in_atlas(Atlas.open(atlas.folder), "random:demo:cnn", None, execution=execution)
    assert sorted(names(placed)) == [str(first), str(second)] and loaded == ["random:demo:cnn"]
    assert atlas_distances(Atlas.open(atlas.folder), execution=execution).complete


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """An atlas of eight small random networks, four of which are near to each other; and two more networks."""
    images = load_images(networks.noise_images(k=96))
    nets = [small(seed) for seed in range(4)] + [small(seed, noise=0.03 * (seed + 1)) for seed in range(4)]
    execution = Execution(home=tmp_path_factory.mktemp("home"))
    atlas = Atlas.begin(tmp_path_factory.mktemp("crowd"), head_of(images))
    assert len(add_models(atlas, nets, images, execution=execution).new) == len(nets)
    asked = [small(0, noise=0.01), small(7)]
    return Atlas.open(atlas.folder), images, asked, execution


def small(seed, noise=0.0):
    net = networks.SmallNet(seed=seed)
    rng = np.random.default_rng(seed)
    for weights in net.parameters():
        weights.data += (
            noise * weights.data.std().nan_to_num() * weights.data.new_tensor(rng.normal(size=weights.shape))
        )
    return replace(load_classifier(net, transform=networks.transform), id=f"net-{seed}-{noise:g}")


@pytest.mark.slow
def test_the_nearest_are_those_of_the_full_ranking_and_the_far_ones_are_given_up(crowd, monkeypatch):
    atlas, images, asked, execution = crowd
    given_up, costs = [], from_atlas._Search.costs_no_more
    monkeypatch.setattr(
        from_atlas._Search,
        "costs_no_more",
        lambda self, *args: costs(self, *args) or bool(given_up.append(args[0])),
    )
    for model in asked:
        full = nearest_in_atlas(atlas, model, None, images=images, execution=execution)
        assert len(full) == 8 and [one.nats for one in full] == sorted(one.nats for one in full) and not given_up
        for n in (1, 3):
            found = nearest_in_atlas(atlas, model, n, images=images, execution=execution)
            assert names(found) == names(full)[:n]
            assert [nats(one) for one in found] == [nats(one) for one in full[:n]]
        assert given_up
        given_up.clear()


# What is refused


def test_other_images_are_refused(made, atlas, digits, execution):
    others = load_images("digits", k=K, seed=1)
    for images in (others, list(others)):
        with pytest.raises(UnfitError) as refused:
            load_atlas_images(made, images)
        assert "other images" in told(refused)[0] and len(told(refused)) == 3
    with pytest.raises(UnfitError, match="other images"):
        nearest_in_atlas(without(atlas, "demo:cnn"), "demo:cnn", images=others, execution=execution)
    with pytest.raises(UnfitError, match="other images"):
        Atlas.begin(made.folder, head_of(others))
    assert load_atlas_images(made).fingerprint == load_atlas_images(made, digits).fingerprint


def test_more_images_than_kernels_are_exact_for_are_refused():
    class Many:
        def __len__(self):
            return LANDMARKS + 1

    with pytest.raises(UnfitError) as refused:
        head_of(Many())
    assert told(refused)[0] == "4097 images are too many for an atlas" and "-k 4096" in told(refused)[2]


@pytest.mark.parametrize("protocol", ["thorough", "single", replace(PROTOCOLS["standard"], orders=2)])
def test_what_takes_weights_or_other_orders_is_refused_in_three_lines(made, protocol, execution):
    for ask in (
        lambda: protocol_of(made, protocol),
        lambda: atlas_distances(made, protocol=protocol, execution=execution),
        lambda: nearest_in_atlas(made, "demo:cnn", protocol=protocol, execution=execution),
    ):
        with pytest.raises(UsageError) as refused:
            ask()
        assert len(told(refused)) == 3 and "--protocol standard" in told(refused)[2]


def test_a_member_cannot_be_run(made):
    (member, *_) = from_atlas.members_of(made)
    with pytest.raises(UnfitError, match="cannot be run or trained"):
        member.network(None)
    with pytest.raises(UsageError, match="one order"):
        compute_outputs(member, from_atlas.images_of(made)).reordered(np.arange(K))


def test_an_atlas_without_others_has_nobody_to_compare_with(atlas, execution):
    alone = without(atlas, *MODELS[1:])
    with pytest.raises(NotFoundError, match="no other model"):
        nearest_in_atlas(alone, "demo:cnn", execution=execution)
    with pytest.raises(NotFoundError, match="is empty"):
        nearest_in_atlas(without(alone, "demo:cnn"), "demo:cnn", execution=execution)


# What is damaged


def test_distances_that_are_none_are_left_out_and_the_rest_answers(atlas, tmp_path, caplog):
    execution = Execution(home=tmp_path / "new")  # which knows no results of the model as it was
    atlas, before = without(atlas, "demo:cnn"), Execution(home=tmp_path / "before")
    whole = nearest_in_atlas(atlas, "demo:cnn", None, execution=before)
    file, rng = atlas.find("random:demo:vit"), np.random.default_rng(0)
    made_up = {name: rng.integers(0, 2**16, K * (K - 1) // 2, dtype=np.uint16) for name in SQUARES}
    write_file(atlas.models, file.entry, np.array(file.logits), made_up)
    rest = nearest_in_atlas(Atlas.open(atlas.folder), "demo:cnn", None, execution=execution)
    assert sorted(names(rest)) == sorted(MODELS[1:3]) and "random:demo:vit is left out" in caplog.text
    assert [nats(one) for one in rest] == [nats(one) for one in whole if one.model_b.id != file.entry.id]


def test_logits_that_are_none_are_left_out_and_the_rest_answers(atlas, tmp_path, caplog):
    execution = Execution(home=tmp_path / "new")  # which knows no results of the model as it was
    file = atlas.find("random:demo:vit")
    logits = np.array(file.logits)
    logits[K // 2] = np.nan
    write_file(atlas.models, file.entry, logits, {name: file.square(name) for name in SQUARES})
    again = Atlas.open(atlas.folder)
    pair = atlas_distances(again, ["random:demo:vit", "demo:cnn"], execution=execution)
    assert not pair.complete and any("damaged" in text for text in pair.errors.values())
    assert sorted(names(nearest_in_atlas(again, "demo:cnn", None, execution=execution))) == sorted(MODELS[1:3])
    assert "no numbers" in caplog.text


def test_the_loudest_logits_make_a_model_far_and_no_number_none(atlas, tmp_path):
    execution = Execution(home=tmp_path / "new")  # which knows no results of the model as it was
    file = atlas.find("random:demo:vit")
    loud = np.where(np.eye(K, file.entry.model.num_classes) > 0, 9e29, -9e29).astype(np.float32)
    write_file(atlas.models, file.entry, loud, {name: file.square(name) for name in SQUARES})
    placed = nearest_in_atlas(Atlas.open(atlas.folder), "demo:cnn", None, execution=execution)
    assert len(placed) == 3 and np.isfinite([nats(one) for one in placed]).all()


# What is added


@pytest.mark.slow
def test_the_same_model_has_the_same_bytes_in_every_folder(made, digits, execution, tmp_path):
    for folder in ("one", "two"):
        atlas = Atlas.begin(tmp_path / folder, head_of(digits))
        own = Execution(home=tmp_path / f"{folder}-home")
        added = add_models(atlas, ["demo:cnn", "demo:nothing"], digits, execution=own)
        assert added.new == ("demo:cnn",) and list(added.failed) == ["demo:nothing"]
        assert add_models(atlas, ["demo:cnn"], digits, execution=own).there == ("demo:cnn",)
    one, two = (next((tmp_path / folder / "models").glob("*.safetensors")) for folder in ("one", "two"))
    assert one.name == two.name == made.find("demo:cnn").path.name and one.read_bytes() == two.read_bytes()


def test_the_table_has_a_row_for_each_model(made):
    import pandas

    table = pandas.read_parquet(made.folder / "index.parquet")
    assert sorted(table["model"]) == sorted(MODELS)
    right = dict(zip(table["model"], table["accuracy"], strict=True))
    assert right["demo:cnn"] > 0.9 and right["random:demo:cnn"] < 0.5


# What is verified and joined


@pytest.fixture
def run(capsys):
    """Run a command of atlases; return its exit code and its JSON."""
    app = typer.Typer()
    for name in ("verify", "merge", "push", "pull"):
        app.command(name)(getattr(atlas_exchange, f"{name}_atlas"))

    def call(*words):
        code = typer.main.get_command(app)([*map(str, words), "--json"], standalone_mode=False)
        return code or 0, json.loads(capsys.readouterr().out)

    return call


def test_a_model_that_is_run_again_says_the_same(made, digits, execution):
    for file in made.files:
        assert verify_member(file, digits, execution=execution).same


def test_what_was_changed_by_hand_is_found(atlas, digits, execution, run):
    file = atlas.find("demo:cnn")
    squares = {name: np.array(file.square(name)) for name in SQUARES}
    logits = np.array(file.logits)
    logits[3, 4] += 0.1
    other = file.entry.labels[::-1]
    for change, why in (
        ((file.entry, logits, squares), "logits differ by up to 0."),
        ((file.entry, file.logits, squares | {"last": squares["last"] // 2}), "features 'last'"),
        ((replace(file.entry, labels=other), file.logits, squares), "other names"),
    ):
        entry, numbers, distances = change
        write_file(atlas.models, entry, np.array(numbers), distances)
        verified = verify_member(Atlas.open(atlas.folder).find("demo:cnn"), digits, execution=execution)
        assert not verified.same and why in verified.why
    code, found = run("verify", "--atlas", atlas.folder, "demo:cnn", "demo:vit")
    assert code == 4 and [one["same"] for one in found["models"]] == [False, True]
    assert found["schema"] == "infodist.atlas_verified/1"


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_told(digits, execution, tmp_path, run):
    shutil.copytree(DEMO / "cnn", tmp_path / "gone")
    atlas = Atlas.begin(tmp_path / "atlas", head_of(digits))
    add_models(atlas, [str(tmp_path / "gone"), "demo:vit"], digits, execution=execution)
    shutil.rmtree(tmp_path / "gone")
    code, found = run("verify", "--atlas", atlas.folder)
    same = {one["model"]: one["same"] for one in found["models"]}
    assert code == 4 and same == {str(tmp_path / "gone"): False, "demo:vit": True}
    assert any("cannot be run" in one["why"] for one in found["models"])


def test_folders_are_joined_by_a_command(made, atlas, tmp_path, run):
    half = without(atlas, *MODELS[2:])
    code, found = run("merge", made.folder, "--atlas", half.folder)
    assert code == 0 and found["new"] == sorted(MODELS[2:]) and found["same"] == sorted(MODELS[:2])
    code, found = run("merge", made.folder, "--atlas", tmp_path / "new")
    assert code == 0 and found["new"] == sorted(MODELS) and Atlas.open(tmp_path / "new").names == made.names
    damaged = Atlas.open(tmp_path / "new").find("demo:vit").path
    damaged.write_bytes(b"half")
    code, found = run("merge", tmp_path / "new", "--atlas", half.folder)
    assert code == 4 and found["unreadable"] == [damaged.name] and damaged.exists()
