"""Files of an atlas are data, whoever wrote them: what is hostile is set aside with a word, and the rest answers."""

import json
import logging
import os
import pickle
import resource
import shutil
import struct
from dataclasses import replace

import numpy as np
import pytest
from atlases import entry_of, fill, head_of, told
from hypothesis import given
from hypothesis import strategies as st

from hf_infodist.coding.kernels import LANDMARKS
from hf_infodist.errors import NotFoundError, UnfitError
from hf_infodist.outputs.known import KnownOutputs
from hf_infodist.results.atlas.files import open_file, write_file
from hf_infodist.results.atlas.folder import Atlas
from hf_infodist.results.atlas.header import MOST_BYTES
from hf_infodist.results.atlas.packing import (
    LOUDEST,
    MOST_IMAGES,
    SQUARES,
    pack_logits,
    pack_square,
    unpack_square,
)
from hf_infodist.results.atlas.parts import FORGOTTEN_SECONDS

K, CLASSES = 12, 3


@pytest.fixture
def atlas(tmp_path):
    """An atlas of three made-up models."""
    return fill(tmp_path / "atlas", ("good", "victim", "last"), K, CLASSES)


def damage(atlas, change):
    """Change the file of the second model; return it."""
    path = atlas.find("victim").path
    change(path)
    return path


def parts(path):
    """Return the header of a file as JSON types, and its numbers."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewrite(path, header, numbers):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)


def with_header(change):
    def apply(path):
        header, numbers = parts(path)
        rewrite(path, change(header) or header, numbers)

    return apply


def with_entry(**fields):
    """Change what a file says of its model: fields of the entry, or of its ``model``."""

    def change(header):
        about = json.loads(header["__metadata__"]["infodist"])
        for name, value in fields.items():
            (about["entry"]["model"] if name in about["entry"]["model"] else about["entry"])[name] = value
        header["__metadata__"]["infodist"] = json.dumps(about)

    return with_header(change)


def with_about(**fields):
    def change(header):
        header["__metadata__"]["infodist"] = json.dumps(json.loads(header["__metadata__"]["infodist"]) | fields)

    return with_header(change)


def offsets(name, first, last):
    return with_header(lambda header: header[name].update(data_offsets=[first, last]))


def shape(name, *sizes):
    return with_header(lambda header: header[name].update(shape=sizes))


def link_out(path):
    outside = path.parents[2] / path.name
    path.rename(outside)
    path.symlink_to(outside)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def twice(path):
    header, numbers = parts(path)
    text = json.dumps(header).encode()
    rewrite(path, text[:-1] + b', "logits": ' + json.dumps(header["logits"]).encode() + b"}", numbers)


ESCAPE = "\x1b[2J\x1b]0;owned\x07"
HOSTILE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "seven bytes": lambda path: path.write_bytes(b"1234567"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"logits": np.zeros(3)})),
    "a header of 100 GB": lambda path: path.write_bytes(struct.pack("<Q", 10**11) + b"{}"),
    "a header of nearly 2^64 bytes": lambda path: path.write_bytes(struct.pack("<Q", 2**64 - 1) + b"{}"),
    "a header that is too large": lambda path: rewrite(path, b"{}" + b" " * MOST_BYTES, b""),
    "a header of another coding": lambda path: rewrite(path, "{}".encode("utf-16"), b""),
    "a header nested deeply": lambda path: rewrite(path, b'{"a":' * 100_000, b""),
    "a header that is a list": lambda path: rewrite(path, b"[[]]", b""),
    "a tensor of 100 GB": lambda path: offsets("logits", 0, 10**11)(path),
    "a shape of 100 GB": shape("logits", 10**6, 10**5),
    "a shape that overflows": shape("logits", 2**62, 2**62),
    "a negative shape": shape("logits", -K, -CLASSES),
    "negative sizes": lambda path: offsets("logits", -72, 0)(path),
    "sizes the wrong way": lambda path: offsets("logits", 72, 0)(path),
    "overlapping sizes": lambda path: with_header(
        lambda header: header["distances.first"].update(data_offsets=header["distances.last"]["data_offsets"])
    )(path),
    "another shape": shape("logits", CLASSES, K),
    "a tensor of another type": with_header(lambda header: header["logits"].update(dtype="I16")),
    "a tensor named twice": twice,
    "a tensor of another name": with_header(lambda header: header.update(more=header.pop("logits"))),
    "no word of an atlas": with_header(lambda header: header.pop("__metadata__") and header),
    "an entry that is no JSON": with_header(lambda header: header["__metadata__"].update(infodist="{")),
    "an entry nested deeply": with_header(lambda header: header["__metadata__"].update(infodist="[" * 100_000)),
    "an entry that is a list": with_about(entry=[1]),
    "no entry": with_about(entry=None),
    "another packing": with_about(packing=99),
    "k of another sample": with_about(k=K + 1),
    "a huge k": with_about(k=10**12),
    "k that is no number": with_about(k="x" * 10**6),
    "k that is true": with_about(k=True),
    "another key than its name": with_entry(outputs="0" * 32),
    "weights of another": with_entry(weights="0" * 64),
    "another preprocessing": with_entry(preprocessing={"size": 1}),
    "terminal escapes in its name": with_entry(id=f"good{ESCAPE}"),
    "terminal escapes in a class": with_entry(labels=["a", "b", ESCAPE]),
    "terminal escapes in a field": with_entry(**{ESCAPE: 1}),
    "letters that turn a line around": with_entry(id="good\u202e"),
    "a name of a megabyte": with_entry(id="x" * 10**6),
    "a name that is a number": with_entry(id=7),
    "no name": with_entry(id=""),
    "fewer classes than logits": with_entry(labels=["a", "b"]),
    "more classes than fit": with_entry(num_classes=10**9),
    "classes that are none": with_entry(num_classes=True),
    "an accuracy of 2": with_entry(accuracy=2.0),
    "an accuracy that is none": with_entry(accuracy=float("nan")),
    "layers that are none": with_entry(quarters=[1, 1, 1, "x"]),
    "three quarters": with_entry(quarters=[1, 1, 1]),
    "weights that are none": with_entry(parameters=-1),
    "versions that are none": with_entry(versions=[ESCAPE]),
    "a link out of the folder": link_out,
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to(path)),
    "a pipe": pipe,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_damaged_is_set_aside_with_a_word_and_the_rest_answers(atlas, what, caplog):
    victim, others = damage(atlas, HOSTILE[what]), ["good", "last"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    again = Atlas.open(atlas.folder)
    assert again.names == others and all(len(file.logits) == K for file in again.files)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "it has taken 200 MB"
    (said,) = [line.getMessage() for line in caplog.records]
    assert "cannot be read" in said and said.isprintable() and len(said) < 2500
    if what != "a link to nowhere":  # there is nothing to be kept
        assert "kept as" in said
        (kept,) = atlas.models.glob("*.unreadable")
        assert kept.name.startswith(victim.name) and not os.path.lexists(victim)
    atlas.write_index()
    assert len(list(atlas.models.glob("*.safetensors"))) == 2


@pytest.mark.parametrize("change", [np.nan, np.inf, -np.inf], ids=["not a number", "infinity", "minus infinity"])
def test_logits_that_are_no_numbers_are_set_aside_where_they_are_read(atlas, change, caplog):
    def spoil(path):
        header, numbers = parts(path)
        first = header["logits"]["data_offsets"][0]
        bad = np.array([change], np.float16).tobytes()
        rewrite(path, header, numbers[:first] + bad + numbers[first + 2 :])

    damage(atlas, spoil)
    again = Atlas.open(atlas.folder)
    assert [file.entry.id for file in again.sound] == ["good", "last"]
    assert "no numbers" in caplog.text and list(atlas.models.glob("*.unreadable"))
    assert Atlas.open(atlas.folder).names == ["good", "last"]


def test_numbers_that_somebody_has_changed_are_found_out_and_are_not_called_as_they_were(atlas):
    file = atlas.find("victim")
    logits, squares = np.array(file.logits), {name: np.array(file.square(name)) for name in SQUARES}
    header, numbers = parts(file.path)
    first = header["distances.first"]["data_offsets"][0]
    rewrite(file.path, header, numbers[:first] + bytes([numbers[first] ^ 1]) + numbers[first + 1 :])
    again = Atlas.open(atlas.folder).find("victim")
    assert np.array_equal(again.logits, logits) and again.outputs == file.outputs  # as they were
    with pytest.raises(UnfitError, match=r"its distances\.first are others than it says"):
        again.square("first")
    write_file(atlas.models, file.entry, logits, squares | {"first": squares["last"] + 1})
    assert Atlas.open(atlas.folder).find("victim").outputs != file.outputs


def test_layers_by_which_distances_are_averaged_are_part_of_the_name(atlas):
    file = atlas.find("victim")
    numbers = np.array(file.logits), {name: np.array(file.square(name)) for name in SQUARES}
    a, b, c, d = file.entry.quarters
    write_file(atlas.models, replace(file.entry, quarters=(a + 1, b, c, d)), *numbers)
    again = Atlas.open(atlas.folder).find("victim")
    assert again.digests == file.digests and again.outputs != file.outputs


def test_a_name_with_terminal_escapes_is_told_without_them(atlas, caplog):
    (atlas.models / f"{ESCAPE}.safetensors").write_bytes(b"x")
    assert Atlas.open(atlas.folder).names == ["good", "last", "victim"]
    assert "cannot be read" in caplog.text and "\x1b" not in caplog.text


def test_an_atlas_that_is_not_ours_is_left_as_it_is(atlas, caplog):
    path = damage(atlas, HOSTILE["truncated"])
    theirs = Atlas.open(atlas.folder, writable=False)
    assert theirs.names == ["good", "last"] and path.exists() and "left out" in caplog.text


def test_a_damaged_model_is_taken_over_again_and_nothing_else_is_written_over(atlas, tmp_path):
    whole = fill(tmp_path / "whole", ("good", "victim", "new"), K, CLASSES)
    kept = atlas.find("good").path.stat().st_mtime_ns
    damage(atlas, HOSTILE["truncated"])
    joined = Atlas.open(atlas.folder).merge(whole)
    assert joined.new == ("new", "victim") and joined.same == ("good",) and not joined.unreadable
    assert atlas.find("good").path.stat().st_mtime_ns == kept
    assert Atlas.open(atlas.folder).names == ["good", "last", "new", "victim"]


def test_of_a_damaged_atlas_what_is_whole_is_taken_over_and_the_rest_is_told(atlas, tmp_path):
    path = damage(atlas, HOSTILE["truncated"])
    mine = Atlas.begin(tmp_path / "mine", atlas.head)
    joined = mine.merge(Atlas.open(atlas.folder, writable=False))
    assert joined.new == ("good", "last") and joined.unreadable == (path.name,) and path.exists()


def test_a_model_of_other_images_is_no_model_of_this_atlas(atlas, tmp_path, caplog):
    other = fill(tmp_path / "other", ("stranger",), K, CLASSES, fingerprint="others")
    with pytest.raises(UnfitError, match="other images"):
        atlas.merge(other)
    shutil.copy(other.files[0].path, atlas.models)
    assert "stranger" not in Atlas.open(atlas.folder).names and "other images" in caplog.text


# The head


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "infodist.atlas/9"},
        {"schema": ESCAPE * 1000},
        {"images": None},
        {"images": {"k": 10**12}},
        {"images": {"k": True}},
        {"images": {"id": ESCAPE}},
        {"images": {"fingerprint": None}},
        {"images": {"seed": "x"}},
        {"images": {ESCAPE: 1}},
        {"labels": [0]},
        {"labels": [-2] * K},
        {"labels": [0.5] * K},
        {"labels": [7] * K, "label_names": ["a"]},
        {"labels": 3},
        {"label_names": [ESCAPE]},
        {"layers": "x"},
    ],
    ids=repr,
)
def test_a_hostile_head_is_refused_in_three_lines(atlas, change):
    fields = atlas.head.to_dict()
    inner = change.pop("images", {})
    fields |= change | {"images": inner and fields["images"] | inner if inner is not None else 7}
    if not inner and inner is not None:
        fields["images"] = atlas.head.to_dict()["images"]
    (atlas.folder / "atlas.json").write_text(json.dumps(fields))
    with pytest.raises(UnfitError) as refused:
        Atlas.open(atlas.folder)
    assert len(told(refused)) == 3 and "\x1b" not in str(refused.value) and len(str(refused.value)) < 1500


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"schema": 1, "schema": 2}'])
def test_a_head_that_is_something_else_is_refused(atlas, text):
    (atlas.folder / "atlas.json").write_text(text)
    with pytest.raises(UnfitError, match="damaged"):
        Atlas.open(atlas.folder)


def test_a_head_without_end_is_not_read(atlas):
    head = atlas.folder / "atlas.json"
    for target in ("/dev/zero", "/etc/hostname"):
        head.unlink()
        head.symlink_to(target)
        with pytest.raises(UnfitError, match="no file of this folder"):
            Atlas.open(atlas.folder)
    head.unlink()
    with head.open("wb") as file:
        file.truncate(2**36)
    with pytest.raises(UnfitError, match="more than"):
        Atlas.open(atlas.folder)


def test_models_of_another_folder_are_not_touched(atlas, tmp_path):
    elsewhere = tmp_path / "precious"
    elsewhere.mkdir()
    (elsewhere / "model.safetensors").write_bytes(b"weights")
    shutil.rmtree(atlas.models)
    atlas.models.symlink_to(elsewhere)
    with pytest.raises(UnfitError, match="another folder"):
        Atlas.open(atlas.folder)
    assert [path.name for path in elsewhere.iterdir()] == ["model.safetensors"]


def test_a_folder_that_is_no_atlas_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path, tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(NotFoundError, match="no atlas"):
            Atlas.open(folder)


def test_two_who_begin_one_folder_with_other_images_do_not_mix(atlas):
    before = (atlas.folder / "atlas.json").read_bytes()
    with pytest.raises(UnfitError, match="other images"):
        Atlas.begin(atlas.folder, head_of(K, CLASSES, fingerprint="others"))
    assert (atlas.folder / "atlas.json").read_bytes() == before


def test_an_empty_atlas_has_no_model_and_says_so(tmp_path):
    atlas = Atlas.begin(tmp_path, head_of(K, CLASSES))
    assert atlas.names == [] and not atlas.merge(atlas).new
    with pytest.raises(NotFoundError, match="there are 0"):
        atlas.find("demo:cnn")


def test_what_dead_writers_have_left_is_removed_after_an_hour_and_nothing_else(atlas):
    old, new = (atlas.models / f".{digit * 32}.part" for digit in "ab")
    others = [atlas.models / name for name in (".mine.part", f"{'c' * 32}.part", f".{'d' * 32}.keep")]
    for path in (old, new, *others):
        path.write_bytes(b"half")
    for path in (old, *others):
        os.utime(path, (path.stat().st_mtime - FORGOTTEN_SECONDS - 60,) * 2)
    Atlas.begin(atlas.folder, atlas.head)
    assert not old.exists() and new.exists() and all(path.exists() for path in others)


# Packing


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 30))
def test_each_distance_comes_back_within_half_a_step_of_its_kernel(seed, size):
    points = np.random.default_rng(seed).normal(size=(6, 4)) * size**0.5
    distances = ((points[:, None] - points) ** 2).sum(2)
    packed = pack_square(distances)
    again = unpack_square(packed, 6)
    assert packed.dtype == np.uint16 and packed.shape == (15,)
    assert np.array_equal(again, again.T) and not np.diag(again).any() and np.isfinite(again).all()
    step = 1 / (2**16 - 1)
    assert np.abs(np.exp(-distances / 4) - np.exp(-again / 4)).max() <= step / 2 * (1 + 1e-9)
    assert np.array_equal(
        pack_square(again), np.maximum(packed, pack_square(again))
    )  # but for 0, which is half a step


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1000))
def test_quiet_logits_keep_half_precision_and_loud_ones_single(seed, size):
    logits = np.random.default_rng(seed).normal(size=(8, 5)) * size + 7
    centred = logits - logits.mean(1, keepdims=True)
    packed = pack_logits(logits)
    quiet = np.abs(centred).max() <= LOUDEST
    assert packed.dtype == (np.float16 if quiet else np.float32)
    assert np.abs(packed - centred).max() <= np.abs(centred).max() * (2.0**-11 if quiet else 2.0**-24) * 1.001


def test_loud_logits_come_back_from_a_file_in_single_precision(tmp_path):
    rng = np.random.default_rng(0)
    loud = pack_logits(rng.normal(size=(K, CLASSES)) * 1e4)
    squares = {name: pack_square(np.zeros((K, K))) for name in SQUARES}
    file = open_file(write_file(tmp_path, entry_of("loud", K, CLASSES), loud, squares))
    assert file.logits.dtype == np.float32 and np.array_equal(file.logits, loud)


def test_a_model_that_no_file_can_name_is_refused_before_it_has_a_name(tmp_path):
    squares = {name: pack_square(np.zeros((K, K))) for name in SQUARES}
    with pytest.raises(UnfitError, match="cannot be put into an atlas"):
        write_file(tmp_path, entry_of(f"loud{ESCAPE}", K, CLASSES), pack_logits(np.zeros((K, CLASSES))), squares)
    assert not list(tmp_path.iterdir())


def test_an_atlas_has_at_most_the_images_that_kernels_are_exact_for():
    assert MOST_IMAGES == LANDMARKS


def test_nothing_is_logged_of_a_whole_atlas(atlas, caplog):
    with caplog.at_level(logging.DEBUG):
        assert len(Atlas.open(atlas.folder).sound) == 3
    assert not caplog.records


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not list open files")
def test_no_file_stays_open_once_its_logits_were_read(atlas):
    before = len(os.listdir("/proc/self/fd"))
    outputs = [KnownOutputs.of(file, file.outputs) for file in atlas.files]
    assert [one.logits[0:2].shape for one in outputs] == [(2, one.logits.shape[1]) for one in outputs]
    assert len(os.listdir("/proc/self/fd")) == before
