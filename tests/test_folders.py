"""What lies in a folder counts, whatever it is called and whatever lies beside it."""

import json
import logging
import os
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import datasets
import evaluate
import numpy as np
import pytest
from hub import serve
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hf_infodist import information_distance, pairwise_distances
from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.images.sample import load_images
from hf_infodist.pair import Execution


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


def picture(number, format="PNG", size=(5, 4)):
    """An image file that is told from every other by its colour."""
    file = BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 77)).save(file, format)
    return file.getvalue()


def lay(root, names, format="PNG"):
    """Write an image under every name; return their bytes."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, format))
    return {picture(number, format) for number in range(len(names))}


def held(images):
    """The image files of a sample, as they are stored."""
    rows = [images._pictures[int(row)] for row in images._rows]
    stored = [row[images.column] for row in rows]
    return {one if isinstance(one, bytes) else one["bytes"] for one in stored}


PHOTOS = [f"holiday {i}.jpg" for i in range(24)]
NAMES = {  # datasets#5021, #7201 and others: words in names that are read as splits, characters read as patterns
    "a word in a file's name": [*PHOTOS, "train station.jpg"],
    "a word in a folder's name": ["cat/1.jpg", "freight-train/2.jpg", "electric kettle/3.jpg"],
    "a folder called test": ["cat/1.jpg", "cat/2.jpg", "test/3.jpg"],
    "two words": ["train_old/1.jpg", "validation-set/2.jpg", "testing/3.jpg"],
    "split and photographs": ["train/1.jpg", "2.jpg"],
    "short words": ["val/1.jpg", "dev/2.jpg", "eval/3.jpg", "other/4.jpg"],
    "endings of all kinds": ["a.jpg", "b.JPEG", "c.Png", "d.webp", "e.avif", "f.bmp", "g.tif", "h.ppm", "i.jfif"],
    "brackets": ["photos [24]/1.jpg", "photos [24]/2[3].jpg", "{a,b}.jpg"],
    "pattern": ["*.jpg", "a?.jpg", "**/x.jpg"],
    "strange characters": [
        "ä é.jpg",
        "100%.jpg",
        "a#b.jpg",
        "a::b.jpg",
        "日本/写真.jpg",
        " lead.jpg",
        "new\nline.jpg",
    ],
    "deep": ["a/b/c/d/e/1.jpg", "a/2.jpg", "3.jpg"],
    "no ending": ["IMG_0001", "IMG_0002.jpg"],
    "unknown ending": ["scan.20240101", "other.jpg"],
    "named as data": ["data-00000-of-00001/1.jpg", "state/2.jpg"],
}


@pytest.mark.parametrize("case", NAMES)
def test_every_image_counts_whatever_it_is_called(case, tmp_path):
    files = lay(tmp_path / "set", NAMES[case])
    images = load_images(tmp_path / "set")
    assert images.k == len(NAMES[case]) and held(images) == files and images.split == "train"
    assert sum(image.size == (5, 4) for image in images) == images.k


@pytest.mark.parametrize(
    ("named", "beside"), [("photos [24]", "photos 2"), ("p*", "pq"), ("{x,y}", "x"), ("a?", "ab"), ("%41", "A")]
)
def test_a_folder_is_not_taken_for_another(named, beside, tmp_path):
    lay(tmp_path / beside, ["1.png"])
    (tmp_path / named).mkdir()
    (tmp_path / named / "1.png").write_bytes(picture(9))
    assert held(load_images(tmp_path / named)) == {picture(9)}


@settings(max_examples=60)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=40),
        min_size=1, max_size=6, unique_by=lambda name: name.casefold(),
    )
)  # fmt: skip
def test_names_are_never_read_as_anything_else(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("set")
    names = [name for name in names if name.strip(". ") == name and len(os.fsencode(name)) < 200]
    for number, name in enumerate(names):
        (root / f"{name}.png").write_bytes(picture(number))
    if names:
        assert held(load_images(root)) == {picture(number) for number in range(len(names))}


COMPANY = {  # fluxgym#13, invoke-training#90
    "captions": {f"{i}.txt": b"a cat" for i in range(30)},
    "boxes": {f"{i}.xml": b"<box/>" for i in range(30)},
    "videos": {f"{i}.mp4": b"\0\0\0\x18ftypmp42" for i in range(30)},
    "sounds": {f"{i}.wav": b"RIFF" for i in range(30)},
    "arrays": {f"{i}.npy": b"\x93NUMPY" for i in range(30)},
    "annotations": {"annotations.json": b"{}", "labels.csv": b"a,b\n1,2\n", "README.md": b"# my photographs\n"},
    "what systems leave": {
        "Thumbs.db": b"\xd0\xcf",
        ".DS_Store": b"\0",
        "._1.jpg": b"\0\x05\x16",
        "desktop.ini": b"[x]",
    },
    "drawings": {"logo.svg": b"<svg/>"},
}


@pytest.mark.parametrize("case", COMPANY)
@pytest.mark.parametrize("streaming", [False, True])
def test_what_lies_beside_images_changes_nothing(case, streaming, tmp_path):
    files = lay(tmp_path, [f"{i}.jpg" for i in range(6)], "JPEG")
    alone = load_images(tmp_path, streaming=streaming)
    for name, content in COMPANY[case].items():
        (tmp_path / name).write_bytes(content)
    images = load_images(tmp_path, streaming=streaming)
    assert images.fingerprint == alone.fingerprint and held(images) == files


def test_links_are_followed_and_a_circle_is_not(tmp_path):
    lay(tmp_path / "elsewhere", ["1.png", "2.png"])
    files = lay(tmp_path / "set" / "cat", ["a.png", "b.png", "c.png"])
    os.symlink(tmp_path / "elsewhere", tmp_path / "set" / "dog")
    (tmp_path / "set" / "dog" / "3.png").write_bytes(picture(9))
    os.symlink(tmp_path / "set", tmp_path / "set" / "cat" / "again")
    os.symlink(tmp_path / "elsewhere" / "3.png", tmp_path / "set" / "cat" / "link.png")
    images = load_images(tmp_path / "set")
    assert images.k == 7 and held(images) == files | {picture(9)}
    assert images.label_names == ("cat", "dog") and sorted(images.labels) == [0] * 4 + [1] * 3
    os.symlink(tmp_path / "gone.png", tmp_path / "set" / "cat" / "z.png")
    with pytest.raises(UnfitError, match=r"row \d of .* cannot be read as an image\n.*No such file"):
        load_images(tmp_path / "set")


# Splits


def test_splits_are_folders_that_are_called_so_and_no_others(tmp_path):
    lay(tmp_path, ["train/cat/1.png", "train/dog/2.png", "validation/cat/3.png", "test/dog/4.png"])
    assert load_images(tmp_path).k == 2 and load_images(tmp_path).split == "train"
    assert held(load_images(tmp_path, split="test")) == {picture(3)}
    whole = load_images(tmp_path, split="all")
    assert whole.k == 4 and whole.split == "all" and whole.label_names == ("cat", "dog")
    with pytest.raises(NotFoundError, match=r"no split 'dev' .*\nit has the splits train, validation, test\n"):
        load_images(tmp_path, split="dev")
    lay(tmp_path, ["extra/1.png"])
    assert load_images(tmp_path).k == 5  # now they are classes
    with pytest.raises(NotFoundError, match=r"no split 'test'"):
        load_images(tmp_path, split="test")


def test_two_splits_none_of_which_is_train_are_an_open_choice(tmp_path):
    lay(tmp_path, ["validation/1.png", "test/2.png"])
    with pytest.raises(UsageError, match=r"several splits\nthey are validation, test\nadd --split validation"):
        load_images(tmp_path)
    assert load_images(tmp_path, split="all").k == 2


@pytest.mark.parametrize("streaming", [False, True])
def test_all_splits_of_tables_and_of_dictionaries(streaming, tmp_path):
    parts = {split: table(range(first, first + 3)) for split, first in (("train", 0), ("test", 3))}
    for split, data in parts.items():
        data.to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    images = load_images(tmp_path, split="all", streaming=streaming)
    assert images.k == 6 and held(images) == {picture(number) for number in range(6)}
    assert (
        load_images(datasets.DatasetDict(parts), split="all").fingerprint
        == load_images(tmp_path, split="all").fingerprint
    )
    assert held(load_images(tmp_path, split="test")) == {picture(number) for number in range(3, 6)}


# Labels and metadata


def test_class_folders_label_as_before(tmp_path):
    lay(tmp_path, [f"{name}/{i}.png" for name in ("dog", "cat", "test") for i in range(3)])
    images = load_images(tmp_path)
    theirs = datasets.load_dataset("imagefolder", data_files={"train": f"{tmp_path}/**"}, split="train")
    assert images.label_names == ("cat", "dog", "test") == tuple(theirs.features["label"].names)
    assert images.fingerprint == load_images(theirs).fingerprint and images.labels == load_images(theirs).labels


@pytest.mark.parametrize("nested", [["1.png", "cat/2.png"], ["cat/1.png", "cat/2.png"]])
def test_folders_that_name_no_classes_do_not_label(nested, tmp_path):
    lay(tmp_path, nested)
    assert load_images(tmp_path).labels is None


def write_metadata(folder, kind, rows):
    if kind == "csv":
        (folder / "metadata.csv").write_text("text,file_name\n" + "".join(f"x,{row['file_name']}\n" for row in rows))
    elif kind == "jsonl":
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        datasets.Dataset.from_list(rows).to_parquet(folder / "metadata.parquet")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_metadata_say_which_images_are_rows(kind, tmp_path, caplog):
    rows = [{"file_name": name, "text": "x"} for name in ("more/c.png", "a.png", "b.png")]
    for folder, form in ((tmp_path / "ours", kind), (tmp_path / "theirs", "jsonl")):  # of .csv they leave a file open
        lay(folder, ["b.png", "a.png", "more/c.png", "left out.png"])
        write_metadata(folder, form, rows)
    theirs = datasets.load_dataset("imagefolder", data_files={"train": f"{tmp_path}/theirs/**"}, split="train")
    with caplog.at_level(logging.WARNING):
        images = load_images(tmp_path / "ours")
    assert images.k == 3 and images.fingerprint == load_images(theirs).fingerprint
    assert "1 of 4 images" in caplog.text and "left out" in caplog.text


def test_metadata_of_splits_and_of_several_images(tmp_path):
    lay(tmp_path, ["train/1.png", "train/2.png", "test/3.png"])
    for split, names in (("train", ("1.png", "2.png")), ("test", ("3.png",))):
        lines = "".join(f"{name},{name}\n" for name in names)
        (tmp_path / split / "metadata.csv").write_text(f"before_file_name,after_file_name\n{lines}")
    with pytest.raises(UsageError, match=r"several images\nthey are before, after\nadd --column before"):
        load_images(tmp_path)
    assert load_images(tmp_path, column="after").k == 2 and load_images(tmp_path, column="after", split="all").k == 3
    with pytest.raises(NotFoundError, match=r"no column 'later'"):
        load_images(tmp_path, column="later")


BROKEN = {
    "a missing file": ("file_name\ngone.png\n", r"row 0 of .*metadata\.csv names gone\.png\nthere is no such image"),
    "no column of files": ("name\n1.png\n", r"names no images\nits columns are name"),
    "a way out": ("file_name\n../../secret.png\n", r"names \.\./\.\./secret\.png"),
    "an address": ("file_name\nhttp://host/1.png\n", r"names http"),
    "nothing": ("", r"metadata\.csv cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_metadata_that_cannot_be_meant_are_refused(case, tmp_path):
    content, text = BROKEN[case]
    lay(tmp_path / "set", ["1.png"])
    (tmp_path / "secret.png").write_bytes(picture(5))
    (tmp_path / "set" / "metadata.csv").write_text(content)
    with pytest.raises(UnfitError, match=text):
        load_images(tmp_path / "set")


@pytest.mark.parametrize("name", ["set", "set [1]", "a*"])
def test_a_card_that_declares_its_files_is_followed(name, tmp_path):
    (tmp_path / name).mkdir()
    for part, first in (("a", 0), ("b", 3)):
        table(range(first, first + 3)).to_parquet(str(tmp_path / f"{part}.parquet"))
        (tmp_path / f"{part}.parquet").rename(tmp_path / name / f"{part}.parquet")
    configs = "".join(
        f"\n- config_name: {one}\n  data_files: {part}.parquet" for one, part in (("one", "a"), ("two", "b"))
    )
    (tmp_path / name / "README.md").write_text(f"---\nconfigs:{configs}\n---\n")
    assert held(load_images(tmp_path / name, config="two")) == {picture(number) for number in range(3, 6)}
    with pytest.raises(UsageError, match=r"several configurations\nit has one, two"):
        load_images(tmp_path / name)


def test_a_split_that_is_called_all_is_that_one():
    parts = datasets.DatasetDict({"train": table(range(3)), "all": table(range(5))})
    assert load_images(parts, split="all").k == 5


def test_a_row_that_says_it_is_a_path_is_not_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(1))
    rows = datasets.IterableDataset.from_generator(
        lambda: iter([{"image": b"x"}, {"image": str(tmp_path / "secret.png")}])
    )
    with pytest.raises(UnfitError, match=r"row 1 of .* cannot be read as an image"):
        load_images(rows)


# Archives and tables


def zipped(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._x.png", b"\0\5\x16")
        for number, name in reversed(list(enumerate(names))):  # in no order, as most programs pack them
            archive.writestr(name, picture(number))


def tarred(path, names):
    with tarfile.open(path, "w") as archive:
        for number, name in enumerate(names):
            content = picture(number)
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, BytesIO(content))


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("inside", [False, True])
def test_archives_are_folders(pack, inside, tmp_path):
    names = [f"{name}/train {i}.png" for name in ("cat", "dog") for i in range(4)]
    lay(tmp_path / "plain", names)
    (tmp_path / "packed").mkdir()
    path = tmp_path / "packed" / ("train.zip" if pack is zipped else "test.TAR")
    pack(path, names)
    images, plain = load_images(tmp_path / "packed" if inside else path), load_images(tmp_path / "plain")
    assert images.fingerprint == plain.fingerprint and images.labels == plain.labels
    assert images.label_names == ("cat", "dog")
    assert [image.tobytes() for image in images] == [image.tobytes() for image in plain]


def test_a_tar_of_samples_with_labels_beside_them_is_its_images(tmp_path):
    for shard in (1, 0):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
            for number in (3, 1, 4, 0, 2):
                for ending, content in (("png", picture(5 * shard + number)), ("cls", b"1"), ("json", b"{}")):
                    info = tarfile.TarInfo(f"{number:03}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, BytesIO(content))
    images = load_images(tmp_path)
    assert held(images) == {picture(number) for number in range(10)}
    shards = [str(tmp_path / f"{shard}.tar") for shard in ("0", "1")]
    theirs = datasets.load_dataset("webdataset", data_files={"train": shards}, split="train")
    assert images.fingerprint == load_images(theirs).fingerprint


@pytest.mark.parametrize("name", ["broken.zip", "broken.tar"])
def test_a_broken_archive_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"PK\x03\x04 nothing of the kind" * 40)
    with pytest.raises(UnfitError, match=rf"{name} cannot be read\n"):
        load_images(tmp_path / name)


def table(numbers):
    rows = {"image": [{"bytes": picture(number), "path": None} for number in numbers]}
    return datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image()}))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("name", ["data[1]", "train station", "a*", "test", "x::y", "100%", "ä#", "{a,b}"])
def test_tables_are_read_under_any_name(kind, name, tmp_path):
    def write(path, data):
        path.parent.mkdir(exist_ok=True)
        if kind == "parquet":
            data.to_parquet(str(tmp_path / "new"))
        else:
            data.save_to_disk(tmp_path / "saved")
            (tmp_path / "saved" / "data-00000-of-00001.arrow").rename(tmp_path / "new")
        (tmp_path / "new").rename(path)

    write(tmp_path / "set" / f"{name}.{kind}", table(range(3)))
    write(tmp_path / "set" / f"data1.{kind}", table(range(3, 5)))
    write(tmp_path / "set" / f"a.{kind}", table(range(5, 6)))
    assert held(load_images(tmp_path / "set" / f"{name}.{kind}")) == {picture(number) for number in range(3)}
    assert load_images(tmp_path / "set").k == 6
    assert load_images(tmp_path / "set", streaming=True).k == 6


REFUSED = {
    "images and tables": (["a.png"], ["b.parquet"], UsageError, r"both images and \.parquet files\neither"),
    "two kinds of tables": ([], ["a.parquet", "b.arrow"], UsageError, r"\.arrow and \.parquet files"),
    "another photograph": (["a.png", "b.jxl"], [], UnfitError, r"1 of 2 images .*\n.*\.jxl.*\npip install pillow-jxl"),
    "a telephone's": (["a.HEIC", "b.png", "c.heif"], [], UnfitError, r"2 of 3 images .*\n.*\npip install pillow-heif"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_part_is_never_taken_for_the_whole(case, tmp_path, monkeypatch):
    images, tables, kind, text = REFUSED[case]
    lay(tmp_path, images)
    for name in tables:
        (tmp_path / name).write_bytes(b"PAR1")
    with pytest.raises(kind, match=text):
        load_images(tmp_path)


# Old images under a new file


def replace_unseen(path, content):
    """Put another content under a name, with the same size of name, and the time that the old one told."""
    times = path.stat()
    new = path.with_name("new")
    new.write_bytes(content)
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.rename(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["file", "folder", "declared"])
def test_a_table_that_is_replaced_is_read_anew_although_its_time_is_the_same(form, streaming, tmp_path):
    path, other = tmp_path / "set" / "train.parquet", tmp_path / "other.parquet"
    path.parent.mkdir()
    table(range(4)).to_parquet(path)
    table(range(10, 14)).to_parquet(other)
    if form == "declared":
        (tmp_path / "set" / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files: '*.parquet'\n---\n"
        )
    source = path if form == "file" else tmp_path / "set"
    assert held(load_images(source, streaming=streaming)) == {picture(number) for number in range(4)}
    assert path.stat().st_size == other.stat().st_size
    replace_unseen(path, other.read_bytes())
    assert held(load_images(source, streaming=streaming)) == {picture(number) for number in range(10, 14)}


def test_images_that_are_replaced_are_read_anew_in_folders_and_archives(tmp_path):
    lay(tmp_path / "set", ["1.png"])
    zipped(tmp_path / "a.zip", ["1.png"])
    assert held(load_images(tmp_path / "set")) == held(load_images(tmp_path / "a.zip")) == {picture(0)}
    zipped(tmp_path / "b.zip", ["0.png", "1.png"])
    replace_unseen(tmp_path / "set" / "1.png", picture(5))
    replace_unseen(tmp_path / "a.zip", (tmp_path / "b.zip").read_bytes())
    assert held(load_images(tmp_path / "set")) == {picture(5)}
    assert held(load_images(tmp_path / "a.zip")) == {picture(0), picture(1)}


# One number


MODES = ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16"]


def written(root, modes):
    """Write a picture in every mode; return the sample as a folder, a table, a list and a stream of these files."""
    rng, files = np.random.default_rng(0), []
    for number, mode in enumerate(modes):
        deep, shallow = rng.integers(0, 65536, (5, 6)), rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(deep.astype(np.uint16) if mode == "I;16" else shallow)
        picture = picture if mode == "I;16" else picture.convert(mode)
        file = BytesIO()
        picture.save(file, "TIFF")
        files.append(file.getvalue())
        (root / f"{number}.tif").write_bytes(file.getvalue())
    features = datasets.Features({"image": datasets.Image()})
    rows = {"image": [{"bytes": file, "path": None} for file in files]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(root.with_suffix(".parquet")))
    forms = [load_images(root), load_images(root.with_suffix(".parquet")), load_images(root, streaming=True)]
    return [*forms, load_images([Image.open(BytesIO(file)) for file in files])]


@settings(max_examples=12)
@given(st.lists(st.sampled_from(MODES), min_size=1, max_size=5))
def test_folder_list_and_table_are_one_sample_in_every_mode(tmp_path_factory, modes):
    forms = written(tmp_path_factory.mktemp("modes"), modes)
    assert len({form.fingerprint for form in forms[:-1]}) == 1
    pixels = [[image.tobytes() for image in form] for form in forms]
    assert all(other == pixels[0] for other in pixels)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.lists(st.sampled_from(MODES), min_size=2, max_size=8))
def test_folder_list_and_table_give_one_number_in_every_mode(tmp_path_factory, modes):
    forms = written(tmp_path_factory.mktemp("modes"), modes)
    numbers = {information_distance("demo:cnn", "demo:vit", form).nats for form in forms}
    assert len(numbers) == 1


def test_every_way_to_ask_takes_the_same_images(tmp_path):
    lay(tmp_path / "set [1]", [*PHOTOS, "train station.jpg", "test/1.jpg"])
    folder, execution = str(tmp_path / "set [1]"), Execution(home=tmp_path / "home")
    expected = information_distance("demo:cnn", "demo:vit", folder, execution=execution)
    assert expected.images.k == 26
    matrix = pairwise_distances(["demo:cnn", "demo:vit"], folder, execution=Execution(home=tmp_path / "other"))
    metric = evaluate.load(str(Path(__file__).parents[1] / "metrics" / "infodist"))
    found = metric.compute(predictions=["demo:cnn"], references=["demo:vit"], images=folder)
    assert found["infodist"] == [expected.nats] == [matrix.distances[0, 1]] and matrix.images.k == 26
    lay(tmp_path / "set [1]", ["other.heic"])
    for ask in (
        lambda: information_distance("demo:cnn", "demo:vit", folder),
        lambda: pairwise_distances(["demo:cnn", "demo:vit"], folder),
        lambda: metric.compute(predictions=["demo:cnn"], references=["demo:vit"], images=folder),
    ):
        with pytest.raises(UnfitError, match=r"1 of 27 images .*\n.*\npip install pillow-heif"):
            ask()


# The Hub


@pytest.mark.slow
def test_a_repository_of_loose_images_goes_by_the_same_rules(tmp_path):
    import subprocess
    import sys

    names = ["cat/train station.jpg", "cat/2.jpg", "test/3.jpg", "freight-train/4[5].jpg"]
    files = {name: picture(number, "JPEG") for number, name in enumerate(names)}
    captions = {f"{name}.txt": b"words" for name in names} | {"README.md": b"# photographs\n"}
    ask = (
        "import json, sys\nfrom hf_infodist import load_images\n"
        "found = load_images('acme/loose')\n"
        "print(json.dumps(vars(found.record) | {'labels': found.labels, 'names': found.label_names, 'k': found.k}))"
    )
    lay(tmp_path / "here", names, "JPEG")
    local = load_images(tmp_path / "here")
    (tmp_path / "hub").mkdir()
    with serve(tmp_path / "hub") as hub:
        commit = hub.put("datasets", "acme/loose", files | captions).refs["main"]
        environment = os.environ | hub.environment(tmp_path / "home")
        done = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert found["k"] == 4 and found["fingerprint"] == local.fingerprint and found["revision"] == commit
    assert found["labels"] == local.labels and tuple(found["names"]) == local.label_names
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    again = subprocess.run([sys.executable, "-c", ask], env=offline, capture_output=True, text=True)
    assert not again.returncode and json.loads(again.stdout) == found, again.stderr
