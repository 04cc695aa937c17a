import gc
import json
import os
import pickle
import subprocess
import sys
from dataclasses import fields
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from hub import serve
from PIL import Image

from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.images import opening
from hf_infodist.images import sample as module
from hf_infodist.images import sources as image_sources
from hf_infodist.images.decode import to_rgb
from hf_infodist.images.request import DEFAULT_IMAGES, DEFAULT_K, Sample, SampleOptions, check_sample
from hf_infodist.images.sample import load_images

N = 12


def pixels(n=N, height=5, width=7, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def encoded(array, format="PNG"):
    file = BytesIO()
    Image.fromarray(array).save(file, format)
    return file.getvalue()


def frames(images):
    return [image.tobytes() for image in images]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def files():
    return [encoded(array) for array in pixels()]


@pytest.fixture(scope="module")
def table(files):
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    rows = {"image": [{"bytes": file, "path": None} for file in files], "label": [i % 2 for i in range(N)]}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


@pytest.fixture(scope="module")
def sources(tmp_path_factory, files, table):
    """The same files in every form in which a dataset may come."""
    root = tmp_path_factory.mktemp("sources")
    names = ("folder", "plain", "parquets", "raw", "saved", "saved_splits")
    place = {name: root / name for name in names} | {"parquet": root / "images.parquet"}
    for i, file in enumerate(files):
        for path in (place["folder"] / f"{i:02}.png", place["plain"] / "train" / f"{i:02}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file)
    place["parquets"].mkdir()
    datasets.disable_progress_bars()
    table.to_parquet(place["parquet"])
    table.to_parquet(place["parquets"] / "train-00000-of-00001.parquet")
    table.save_to_disk(place["saved"])
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(place["saved_splits"])
    place["raw"] = root / "raw.parquet"
    datasets.Dataset.from_dict(
        {"picture": files}, features=datasets.Features({"picture": datasets.Value("binary")})
    ).to_parquet(place["raw"])
    return place


# --- sources


FORMS = ("folder", "plain", "parquets", "raw", "saved", "saved_splits", "parquet")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("streaming", [False, True])
def test_every_form_of_the_same_files_is_the_same_sample(form, streaming, sources, table):
    images = load_images(str(sources[form]), k=8, seed=3, streaming=streaming)
    reference = load_images(table, k=8, seed=3)
    assert images.fingerprint == reference.fingerprint
    assert frames(images) == frames(reference)


def test_a_path_may_be_a_path_object(sources):
    assert load_images(sources["parquet"]).id == str(sources["parquet"])


def test_datasets_and_dictionaries_of_splits_are_taken_as_they_are(table):
    reference = load_images(table)
    both = datasets.DatasetDict({"train": table, "test": table.select([0, 1])})
    assert load_images(both).fingerprint == reference.fingerprint
    assert load_images(both).split == "train"
    assert load_images(both, split="test").k == 2
    assert load_images(table.with_format("numpy")).fingerprint == reference.fingerprint
    assert load_images(table.to_iterable_dataset()).fingerprint == reference.fingerprint


def test_lists_may_hold_pictures_and_arrays():
    arrays = pixels()
    pictures = [Image.fromarray(array) for array in arrays]
    reference = load_images(pictures)
    assert reference.column is None
    assert load_images(arrays).fingerprint == load_images(list(arrays)).fingerprint == reference.fingerprint
    assert load_images([array[:, :, 0] for array in arrays])[0].mode == "RGB"


def test_a_stream_without_declared_columns_is_looked_at():
    def rows():
        for array in pixels():
            yield {"image": Image.fromarray(array), "note": "x"}

    stream = datasets.IterableDataset.from_generator(rows)
    assert load_images(stream).fingerprint == load_images(list(pixels())).fingerprint


def test_digits_are_built_in():
    digits = load_images("digits", k=50)
    assert (digits.id, digits.split, len(load_images("digits"))) == ("digits", None, 1797)
    assert digits[0].size == (8, 8)
    assert max(max(image.tobytes()) for image in digits) == 255
    assert set(digits.labels) == set(range(10))


def test_what_is_in_memory_is_no_stream():
    assert load_images("digits", streaming=True).fingerprint == load_images("digits").fingerprint


def test_loaded_images_pass_through(table):
    images = load_images(table, k=6)
    assert load_images(images) is images
    assert load_images(images, k=4).fingerprint == load_images(table, k=4).fingerprint
    assert load_images(images, k=4).labels == images.labels[:4]
    with pytest.raises(UnfitError, match="6 images, fewer than k = 7"):
        load_images(images, k=7)


def test_labels_follow_the_order(table, sources):
    for source in (table, sources["parquet"], table.to_iterable_dataset()):
        images = load_images(source, k=9, seed=1)
        position = {file: i for i, file in enumerate(frames(map(Image.fromarray, pixels())))}
        assert images.labels == [position[frame] % 2 for frame in frames(images)]
    assert load_images(sources["raw"]).labels is None


def test_a_sample_is_asked_for_by_keywords_or_by_a_record(table):
    assert SampleOptions.__annotations__.keys() == {field.name for field in fields(Sample)} - {"images"}
    asked = Sample(table, k=5, seed=2)
    assert load_images(asked).fingerprint == load_images(table, k=5, seed=2).fingerprint
    assert load_images(asked, k=3).fingerprint == load_images(table, k=3, seed=2).fingerprint
    with pytest.raises(UsageError, match="k = 0"):
        Sample(table, k=0)


def test_the_record_of_a_sample_is_json(table):
    record = vars(load_images(table, k=3, seed=5).record)
    assert list(record) == ["id", "config", "split", "column", "k", "seed", "fingerprint", "revision"]
    assert (record["k"], record["seed"], len(record["fingerprint"])) == (3, 5, 32)
    json.dumps(record)


def test_defaults_are_those_of_the_paper():
    assert (DEFAULT_IMAGES, DEFAULT_K) == ("zh-plus/tiny-imagenet", 2000)


def test_the_column_of_images_is_found(files):
    def holding(**columns):
        rows = {name: [{"bytes": file, "path": None} for file in files] for name in columns}
        return datasets.Dataset.from_dict(rows, features=datasets.Features(columns))

    picture, blob = datasets.Image(), {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    assert load_images(holding(photo=picture)).column == "photo"
    assert load_images(holding(photo=blob)).column == "photo"
    assert load_images(holding(mask=picture, image=picture)).column == "image"
    assert load_images(holding(mask=picture, img=picture)).column == "img"
    assert load_images(holding(blob=blob, photo=picture)).column == "photo"
    assert load_images(holding(left=picture, right=picture), column="right").column == "right"


def test_an_open_choice_of_column_is_refused(files):
    rows = {name: [{"bytes": file, "path": None} for file in files] for name in ("left", "right")}
    both = datasets.Dataset.from_dict(rows, features=datasets.Features(dict.fromkeys(rows, datasets.Image())))
    with pytest.raises(UsageError, match=r"left, right\nadd --column left"):
        load_images(both)


@pytest.mark.parametrize("streaming", [False, True])
def test_images_in_structures_are_named_with_a_dot_and_lists_are_refused(files, streaming):
    def table(rows, features):
        data = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        return data.to_iterable_dataset() if streaming else data

    image = [{"bytes": file, "path": None} for file in files]
    pairs = {"pair": [{"before": a, "after": b, "text": "x"} for a, b in zip(image, image[::-1], strict=True)]}
    both = table(
        pairs, {"pair": {"before": datasets.Image(), "after": datasets.Image(), "text": datasets.Value("string")}}
    )
    with pytest.raises(UsageError, match=r"several images in a row\nthey are pair\.before, pair\.after\nadd --column"):
        load_images(both)
    expected = load_images(table({"image": image[::-1]}, {"image": datasets.Image()}))
    assert load_images(both, column="pair.after").fingerprint == expected.fingerprint
    assert frames(load_images(both, column="pair.after")) == frames(expected)
    one = table(
        {"x": [{"img": a, "n": 1} for a in image]}, {"x": {"img": datasets.Image(), "n": datasets.Value("int8")}}
    )
    assert load_images(one).column == "x.img"
    lists = table({"frames": [[a, a] for a in image]}, {"frames": datasets.List(datasets.Image())})
    with pytest.raises(UnfitError, match=r"no column of images\nframes holds a list of images in each row"):
        load_images(lists)


def test_nothing_heavy_is_imported_with_the_module():
    code = "import sys, hf_infodist.images; print({'datasets', 'torch', 'pandas', 'sklearn'} & set(sys.modules))"
    assert run(code) == "set()"


def test_progress_bars_are_left_as_they_were(sources):
    datasets.enable_progress_bars()
    load_images(sources["parquet"])
    assert not datasets.are_progress_bars_disabled()


# --- order and fingerprint


def test_the_order_is_a_permutation(table):
    images = load_images(table)
    assert sorted(frames(images)) == sorted(frames(map(Image.fromarray, pixels())))
    assert frames(images) != frames(map(Image.fromarray, pixels()))


def test_the_order_is_that_of_its_seed(table):
    rows = np.random.default_rng(7).permutation(N)[:5]
    assert frames(load_images(table, k=5, seed=7)) == [Image.fromarray(pixels()[row]).tobytes() for row in rows]


@pytest.mark.parametrize("streaming", [False, True])
def test_fewer_images_are_a_prefix_of_more(table, streaming, monkeypatch):
    monkeypatch.setattr(module, "STREAM_BUFFER", 4)
    source = table.to_iterable_dataset() if streaming else table
    whole = load_images(source, k=N, seed=2)
    for k in range(1, N):
        part = load_images(source, k=k, seed=2)
        assert frames(part) == frames(whole)[:k]
        assert part.fingerprint == whole.first(k).fingerprint


def test_fingerprints_differ_with_order_seed_and_content(table):
    arrays = list(pixels())
    reference = load_images(arrays).fingerprint
    assert load_images(arrays[::-1]).fingerprint != reference
    assert load_images(arrays, seed=1).fingerprint != reference
    assert load_images(arrays, k=N - 1).fingerprint != reference
    arrays[3] = arrays[3] ^ 1
    assert load_images(arrays).fingerprint != reference


def test_the_fingerprint_is_the_hash_of_the_files_hashes(table, files):
    rows = np.random.default_rng(0).permutation(N)
    expected = sha256(b"".join(sha256(files[row]).digest() for row in rows)).hexdigest()[:32]
    assert load_images(table).fingerprint == expected


def test_another_process_finds_the_same_fingerprint(sources):
    code = "from hf_infodist.images.sample import load_images; print(load_images({!r}, k=5, seed=1).fingerprint)"
    assert run(code.format(str(sources["parquet"]))) == load_images(sources["folder"], k=5, seed=1).fingerprint


def test_decoded_pictures_hash_by_what_a_model_sees():
    grey = Image.fromarray(pixels()[0]).convert("L")
    palette = grey.convert("P")
    assert load_images([grey]).fingerprint == load_images([grey.convert("RGB")]).fingerprint
    assert load_images([palette]).fingerprint == load_images([palette.convert("RGB")]).fingerprint
    flat, tall = np.zeros((2, 8, 3), np.uint8), np.zeros((8, 2, 3), np.uint8)
    assert load_images([flat]).fingerprint != load_images([tall]).fingerprint


# --- streams


def test_a_stream_is_read_no_further_than_its_buffer(monkeypatch):
    monkeypatch.setattr(module, "STREAM_BUFFER", 10)
    read = []

    def rows():
        for i in range(1000):
            read.append(i)
            yield {"image": Image.new("L", (1, 1), i % 256)}

    images = load_images(datasets.IterableDataset.from_generator(rows), k=20)
    assert max(read) <= 30
    levels = [image.getpixel((0, 0))[0] for image in images]
    assert len(set(levels)) == 20
    assert all(level < i + 10 for i, level in enumerate(levels))


def test_a_stream_is_spooled_to_disk_as_long_as_its_images_live(table):
    images = load_images(table.to_iterable_dataset())
    folder = Path(images._pictures.cache_files[0]["filename"]).parent
    part, copied = images.first(2), pickle.loads(pickle.dumps(images))
    assert frames(copied) == frames(images)
    del images, copied
    gc.collect()
    assert folder.is_dir()
    del part
    gc.collect()
    assert not folder.exists()


def test_a_failed_stream_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(image_sources.tempfile, "tempdir", str(tmp_path))
    stream = datasets.IterableDataset.from_generator(
        lambda: iter([{"image": Image.new("L", (1, 1))}, {"image": None}])
    )
    with pytest.raises(UnfitError, match="row 1 of"):
        load_images(stream)
    assert list(tmp_path.iterdir()) == []


def test_images_behave_alike_whatever_their_source(table, sources):
    for source in (table, table.to_iterable_dataset(), list(pixels()), "digits", sources["folder"]):
        images = load_images(source, k=4)
        assert len(images) == images.k == 4
        assert images[-1].tobytes() == images[3].tobytes()
        assert images[0] is not images[0]
        assert {image.mode for image in images} == {"RGB"}
        with pytest.raises(IndexError):
            images[4]
        assert frames(pickle.loads(pickle.dumps(images))) == frames(images)


# --- pixels

MODES = [
    ("1", 1, (255, 255, 255)),
    ("1", 0, (0, 0, 0)),
    ("L", 77, (77, 77, 77)),
    ("RGB", (1, 2, 3), (1, 2, 3)),
    ("RGBX", (1, 2, 3, 9), (1, 2, 3)),
    ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
    ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
    ("RGBA", (255, 0, 0, 128), (255, 127, 127)),
    ("RGBa", (50, 0, 0, 128), (177, 127, 127)),
    ("LA", (100, 128), (177, 177, 177)),
    ("La", (50, 128), (177, 177, 177)),
    ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
    ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
    ("YCbCr", (76, 85, 255), (254, 0, 0)),
    ("HSV", (0, 255, 255), (255, 0, 0)),
    ("LAB", (0, 128, 128), (1, 0, 1)),
    ("I", 200, (200, 200, 200)),
    ("I", 257, (16, 16, 16)),
    ("I", 65535, (255, 255, 255)),
    ("I", 100_000, (255, 255, 255)),
    ("I", -5, (0, 0, 0)),
    ("I;16", 65535, (255, 255, 255)),
    ("I;16", 128, (128, 128, 128)),
    ("I;16", 4095, (255, 255, 255)),
    ("I;16L", 32896, (128, 128, 128)),
    ("I;16B", 32896, (128, 128, 128)),
    ("I;16N", 32896, (128, 128, 128)),
    ("F", 0.5, (128, 128, 128)),
    ("F", 1.0, (255, 255, 255)),
    ("F", 200.4, (200, 200, 200)),
    ("F", 300.0, (255, 255, 255)),
    ("F", -3.0, (0, 0, 0)),
    ("F", float("nan"), (0, 0, 0)),
]


@pytest.mark.parametrize(("mode", "value", "expected"), MODES)
@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_every_mode_becomes_rgb(mode, value, expected, size):
    rgb = to_rgb(Image.new(mode, size, value))
    assert (rgb.mode, rgb.size) == ("RGB", size)
    assert set(rgb.get_flattened_data() if hasattr(rgb, "get_flattened_data") else rgb.getdata()) == {expected}
    assert to_rgb(rgb) is rgb


@pytest.mark.parametrize(
    ("transparency", "expected"),
    [(None, (10, 200, 30)), (3, (255, 255, 255)), (bytes([255, 255, 255, 128]), (132, 227, 142))],
)
def test_palettes_are_looked_up_and_put_on_white(transparency, expected):
    image = Image.new("P", (2, 2), 3)
    image.putpalette([0] * 9 + [10, 200, 30])
    options = {} if transparency is None else {"transparency": transparency}
    file = BytesIO()
    image.save(file, "PNG", **options)
    assert to_rgb(Image.open(file)).getpixel((0, 0)) == expected
    assert load_images([Image.open(file)])[0].getpixel((0, 0)) == expected


@pytest.mark.parametrize(("mode", "value"), [("L", 7), ("RGB", (7, 8, 9)), ("1", 255)])
def test_a_transparent_colour_is_put_on_white(mode, value):
    image = Image.new(mode, (2, 1), value)
    image.info["transparency"] = value
    assert to_rgb(image).getpixel((0, 0)) == (255, 255, 255)


def test_a_float_ramp_within_one_is_stretched_and_gaps_are_black():
    ramp = np.array([[0, 0.25, 1, np.nan]], dtype=np.float32)
    assert np.asarray(to_rgb(Image.fromarray(ramp)))[0, :, 0].tolist() == [0, 64, 255, 0]


def test_sixteen_bit_files_keep_their_levels(tmp_path):
    levels = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        assert np.asarray(to_rgb(Image.open(tmp_path / name)))[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_same_levels_are_the_same_picture_in_every_deep_file(bits, tmp_path):
    levels = np.linspace(0, 2**bits - 1, 60).reshape(6, 10).round()
    Image.fromarray(levels.astype(np.uint16)).save(tmp_path / "16.png")
    Image.fromarray(levels.astype(np.uint16)).save(tmp_path / "16.tif")
    Image.fromarray(levels.astype(np.int32)).save(tmp_path / "32.tif")
    Image.fromarray((levels * 255 / (2**bits - 1)).round().astype(np.uint8)).save(tmp_path / "8.png")
    seen = {path.name: np.asarray(to_rgb(Image.open(path)))[..., 0].tolist() for path in tmp_path.iterdir()}
    assert seen["16.png"] == seen["16.tif"] == seen["32.tif"] == seen["8.png"]


def test_a_deep_image_is_known_by_how_it_is_read(tmp_path):
    """What an earlier version kept of such a file is not taken for it: it saw other pixels."""
    Image.fromarray(np.full((4, 4), 9, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(tmp_path / "plain.png")
    for name, same in (("deep", False), ("plain", True)):
        content = (tmp_path / f"{name}.png").read_bytes()
        assert (load_images([content]).fingerprint == sha256(sha256(content).digest()).hexdigest()[:32]) is same


def test_a_data_set_that_wants_its_images_grey_is_seen_so(table, files):
    grey = table.cast_column("image", datasets.Image(mode="L"))
    seen, colour = load_images(grey), load_images(table)
    assert frames(seen) == [image.convert("L").convert("RGB").tobytes() for image in colour]
    assert seen.fingerprint != colour.fingerprint
    streamed = load_images(grey.to_iterable_dataset())
    assert frames(streamed) == frames(seen) and streamed.fingerprint == seen.fingerprint
    cmyk = load_images(table.cast_column("image", datasets.Image(mode="1")))
    assert {value for image in cmyk for value in image.tobytes()} == {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_once(orientation, tmp_path):
    upright = Image.fromarray(pixels(1, 4, 6)[0])
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # stored turned the other way, shown by a clockwise turn
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turns[orientation]) if orientation in turns else upright
    stored.save(tmp_path / "turned.png", exif=exif)
    opened = load_images(tmp_path)[0]
    assert (opened.size, opened.tobytes()) == (upright.size, upright.tobytes())
    assert to_rgb(opened).tobytes() == upright.tobytes()


def test_cmyk_jpegs_are_read(tmp_path):
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "cyan.jpg", quality=100)
    red, green, blue = load_images(tmp_path)[0].getpixel((8, 8))
    assert red < 5 and green > 250 and blue > 250


# --- failures


@pytest.mark.parametrize("damage", ["truncated", "garbage", "missing", "bomb"])
def test_a_broken_image_names_its_row_in_the_dataset(files, damage, monkeypatch):
    jpeg = encoded(pixels(1, 40, 40)[0], "JPEG")
    broken = {"truncated": jpeg[: len(jpeg) // 2], "garbage": b"no image", "missing": None, "bomb": jpeg}
    rows = [file and {"bytes": file, "path": None} for file in [*files[:5], broken[damage], *files[6:]]]
    table = datasets.Dataset.from_dict({"image": rows}, features=datasets.Features({"image": datasets.Image()}))
    if damage == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    for source in (table, table.to_iterable_dataset()):
        with pytest.raises(UnfitError, match="row 5 of dataset cannot be read as an image") as caught:
            list(load_images(source))
        assert_three_lines(caught.value)


def test_a_sample_without_the_broken_image_is_fine(files):
    rows = [{"bytes": file, "path": None} for file in [*files[:5], b"broken", *files[6:]]]
    table = datasets.Dataset.from_dict({"image": rows}, features=datasets.Features({"image": datasets.Image()}))
    k = np.random.default_rng(0).permutation(N).tolist().index(5)
    assert len(list(load_images(table, k=k))) == k


def test_a_file_that_vanished_names_its_row(tmp_path, files):
    rows = {"image": [str(tmp_path / f"{i}.png") for i in range(3)]}
    for path in rows["image"][:2]:
        Path(path).write_bytes(files[0])
    table = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image()}))
    with pytest.raises(UnfitError, match="row 2 of dataset"):
        load_images(table)


def test_an_array_that_is_no_image_names_its_row():
    with pytest.raises(UnfitError, match="row 1 of list cannot be read"):
        load_images([np.zeros((2, 2), np.uint8), np.zeros((3, 2, 2, 2), np.uint8)])


REFUSALS = {
    "no images asked for": (dict(source="digits", k=0), UsageError, r"k = 0 images"),
    "negative k": (dict(source="digits", k=-3), UsageError, r"k = -3"),
    "negative seed": (dict(source="digits", seed=-1), UsageError, r"seed -1"),
    "k before a bad name": (dict(source="nowhere/at-all", k=0), UsageError, r"k = 0"),
    "too many": (dict(source="digits", k=1798), UnfitError, r"1797 images, fewer than k = 1798\n.*\nuse -k 1797"),
    "missing folder": (dict(source="./missing"), NotFoundError, r"missing does not exist"),
    "missing parquet": (dict(source="missing.parquet"), NotFoundError, r"missing.parquet does not exist"),
    "deep path": (dict(source="a/b/c"), NotFoundError, r"a/b/c does not exist"),
    "empty name": (dict(source=""), NotFoundError, r"there is no dataset ''\n.*org/name"),
    "packaged module": (dict(source="imagefolder"), NotFoundError, r"no dataset 'imagefolder'\n.*org/name"),
    "other object": (dict(source=3.5), UsageError, r"from a float"),
    "empty list": (dict(source=[]), UnfitError, r"list is empty"),
    "digits' split": (dict(source="digits", split="test"), NotFoundError, r"no split 'test'.*\n.*\nleave out --split"),
    "digits' config": (dict(source="digits", config="big"), NotFoundError, r"'big' of digits\n.*\nleave out --config"),
    "folder's config": (dict(source="folder", config="big"), NotFoundError, r"configuration 'big'"),
    "file's config": (dict(source="parquet", config="big"), NotFoundError, r"configuration 'big'"),
    "folder's split": (dict(source="folder", split="test"), NotFoundError, r"'test'.*\n.*train\nuse --split train"),
    "saved split": (dict(source="saved_splits", split="dev"), NotFoundError, r"'dev'.*\n.*train, test\n"),
    "slice": (dict(source="folder", split="train[:5]"), NotFoundError, r"train\[:5\]"),
    "unknown column": (dict(source="parquet", column="imag"), NotFoundError, r"'imag'.*\nit has image, label\n"),
    "other column": (dict(source="parquet", column="label"), UnfitError, r"column 'label' .* holds no images"),
    "too many in a folder": (dict(source="folder", k=13), UnfitError, r"12 images, fewer than k = 13"),
    "too many in a stream": (dict(source="folder", k=13, streaming=True), UnfitError, r"12 images, fewer than k = 13"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_meant_is_refused_in_three_lines(case, sources):
    settings, kind, text = REFUSALS[case]
    source = settings["source"]
    source = str(sources[source]) if isinstance(source, str) and source in sources else source
    with pytest.raises(kind, match=text) as caught:
        load_images(**{**settings, "source": source})
    assert type(caught.value) is kind
    assert_three_lines(caught.value)


def test_a_sample_is_checked_without_its_dataset():
    check_sample(None, 0)
    check_sample(1, 7)
    with pytest.raises(UsageError, match="k = 0"):
        check_sample(0, 0)
    with pytest.raises(UsageError, match="seed -1"):
        check_sample(None, -1)


def test_an_open_choice_of_split_is_refused(table):
    both = datasets.DatasetDict({"validation": table, "test": table})
    with pytest.raises(UsageError, match=r"several splits\nthey are validation, test\nadd --split validation"):
        load_images(both)


def test_an_open_choice_of_configuration_is_refused(tmp_path, table):
    for name in ("one", "two"):
        table.to_parquet(tmp_path / name / "train.parquet")
    configs = "".join(f"\n- config_name: {name}\n  data_files: {name}/*.parquet" for name in ("one", "two"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:{configs}\n---\n")
    with pytest.raises(UsageError, match=r"several configurations\nit has one, two\nadd --config one"):
        load_images(tmp_path)
    with pytest.raises(NotFoundError, match=r"no configuration 'three' .*\nit has one, two\n"):
        load_images(tmp_path, config="three")
    assert load_images(tmp_path, config="two").config == "two"


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


UNREADABLE = {
    "an empty folder": ({}, r"holds no images\nthere is nothing in there"),
    "texts": ({"a.txt": b"no images\n"}, r"holds no images\nthe files in there have \.txt\n"),
    "a loading script": ({"set.py": b"raise SystemExit"}, r"needs a loading script"),
    "broken parquet": ({"a.parquet": b"PAR1 no PAR1"}, r"cannot be read\n"),
}


@pytest.mark.parametrize("case", UNREADABLE)
@pytest.mark.parametrize("streaming", [False, True])
def test_folders_that_hold_no_images_are_refused(case, streaming, tmp_path):
    content, text = UNREADABLE[case]
    (tmp_path / "set").mkdir()
    write(tmp_path / "set", content)
    with pytest.raises(UnfitError, match=text) as caught:
        load_images(tmp_path / "set", streaming=streaming)
    assert_three_lines(caught.value)


def test_single_files_are_parquet(tmp_path):
    write(tmp_path, {"set.py": b"raise SystemExit"})
    with pytest.raises(UnfitError, match=r"not a dataset\n.*scripts are never run"):
        load_images(tmp_path / "set.py")


def test_an_empty_dataset_is_refused(table, tmp_path):
    nothing = table.select([])
    nothing.to_parquet(tmp_path / "nothing.parquet")
    undeclared = datasets.IterableDataset.from_generator(lambda: iter([]))
    for source in (nothing, tmp_path / "nothing.parquet", undeclared):
        for streaming in (False, True):
            with pytest.raises(UnfitError, match="is empty"):
                load_images(source, streaming=streaming)


def test_being_offline_is_told_from_a_typo():
    with pytest.raises(NotFoundError, match=r"'acme/tiny' cannot be fetched now\nHF_HUB_OFFLINE is set") as caught:
        load_images("acme/tiny")
    assert_three_lines(caught.value)


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError("slow")])
def test_a_download_that_breaks_is_told_as_such(error, monkeypatch):
    def fail(*args, **kwargs):
        raise datasets.exceptions.DatasetGenerationError("while generating") from error

    builder = SimpleNamespace(download_and_prepare=fail, config=SimpleNamespace(data_files={"train": 1}))
    builder.info = SimpleNamespace(splits=None, features=None)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *args, **kwargs: builder)
    with pytest.raises(NotFoundError, match="cannot be fetched now"):
        load_images("acme/tiny")


def test_a_known_size_or_column_is_checked_before_any_download(monkeypatch):
    builder = SimpleNamespace(config=SimpleNamespace(data_files={}))
    builder.info = SimpleNamespace(splits={"train": SimpleNamespace(num_examples=9)}, features={"text": None})
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *args, **kwargs: builder)
    with pytest.raises(UnfitError, match="9 images, fewer than k = 10"):
        load_images("acme/tiny", k=10)
    with pytest.raises(UnfitError, match="no column of images"):
        load_images("acme/tiny", k=9)


# --- the Hub, as its clients see it


ASK = """
import json
from hf_infodist.errors import InfodistError
from hf_infodist import load_images
def ask(name, **settings):
    try:
        return vars(load_images(name, **settings).record)
    except InfodistError as error:
        return [type(error).__name__, str(error)]
"""
ASKED = f"""{ASK}
names = ["tiny-pics@main", "tiny-pic", "tiny-pics", "tiny-pics@nope", "gated", "script", "void"]
answers = {{name: ask(name) for name in ["tiny-pics", *("acme/" + name for name in names)]}}
answers["stream"] = ask("acme/tiny-pics", streaming=True, k=5)
answers["files"] = ask("acme/files", streaming=True, k=5)
print(json.dumps(answers))
"""
ASKED_OFFLINE = f"""{ASK}
print(json.dumps({{"offline": ask("acme/tiny-pics"), "offline stream": ask("acme/tiny-pics", streaming=True, k=5)}}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory, sources):
    files = {
        "acme/tiny-pics": {"train.parquet": sources["parquet"].read_bytes()},
        "acme/script": {"script.py": b"raise SystemExit"},
        "acme/void": {},
        "acme/gated": {"train.parquet": b"for some only"},
        "acme/files": {path.name: path.read_bytes() for path in sorted(sources["folder"].iterdir())},
    }
    home = tmp_path_factory.mktemp("home")
    caches = {name: str(home / name) for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE")}
    with serve(tmp_path_factory.mktemp("hub")) as hub:
        commits = {id: hub.put("datasets", id, contents).refs["main"] for id, contents in files.items()}
        hub["datasets/acme/gated"].gated = True
        answers = json.loads(run(ASKED, **hub.environment(home), **caches))
    return answers | json.loads(run(ASKED_OFFLINE, **caches)) | {"commits": commits}


def test_a_dataset_of_the_hub_is_loaded_by_name(answers, sources):
    local = load_images(sources["parquet"])
    assert answers["acme/tiny-pics"]["fingerprint"] == local.fingerprint
    assert answers["acme/tiny-pics@main"] == {**answers["acme/tiny-pics"], "id": "acme/tiny-pics@main"}
    assert answers["acme/tiny-pics"]["split"] == "train"
    assert answers["stream"]["fingerprint"] == answers["files"]["fingerprint"] == local.first(5).fingerprint


@pytest.mark.parametrize("name", ["acme/tiny-pics", "acme/tiny-pics@main", "stream", "files"])
def test_a_sample_of_the_hub_names_its_commit(name, answers):
    assert answers[name]["revision"] == answers["commits"]["acme/files" if name == "files" else "acme/tiny-pics"]


def test_a_cached_sample_still_names_its_commit(answers):
    assert answers["offline"] == answers["acme/tiny-pics"]
    assert answers["offline stream"] == answers["stream"]


def test_an_old_cache_names_no_commit():
    for hash in ("f" * 64, "default-0123456789abcdef", "", None):
        assert opening._commit(SimpleNamespace(repo_id="acme/tiny", hash=hash)) is None


@pytest.mark.parametrize("form", [*FORMS, "digits"])
def test_a_sample_of_no_hub_has_no_commit(form, sources):
    assert load_images(sources.get(form, form), k=4).first(2).revision is None


@pytest.mark.parametrize(
    ("name", "kind", "texts"),
    [
        ("acme/tiny-pic", "NotFoundError", ["no public dataset 'acme/tiny-pic'", "did you mean acme/tiny-pics?"]),
        ("tiny-pics", "NotFoundError", ["named org/name", "did you mean acme/tiny-pics?"]),
        ("acme/tiny-pics@nope", "NotFoundError", ["no revision 'nope'", "use acme/tiny-pics for"]),
        ("acme/gated", "NotFoundError", ["dataset 'acme/gated' is gated", "/datasets/acme/gated"]),
        ("acme/script", "UnfitError", ["needs a loading script"]),
        ("acme/void", "UnfitError", ["acme/void holds no readable data"]),
    ],
)
def test_names_that_lead_nowhere_on_the_hub_are_told_apart(name, kind, texts, answers):
    found, message = answers[name]
    assert found == kind
    assert len(message.splitlines()) == 3
    assert all(text in message for text in texts), message


def test_a_cached_copy_of_another_revision_is_refused():
    class Cache:
        hash = "abcdef0123456789"

    for revision in (None, "main", "abcdef0"):
        opening._same_revision("acme/tiny", Cache(), revision)
    with pytest.raises(NotFoundError, match=r"use acme/tiny@abcdef012345"):
        opening._same_revision("acme/tiny@v2", Cache(), "v2")


def assert_three_lines(error):
    assert str(error).splitlines() == [error.what, error.why, error.fix]
    assert all(line.strip() for line in (error.what, error.why, error.fix))


def run(code, **environment):
    """Run Python code in a process of its own and return what it printed."""
    root = str(Path(module.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "HF_HUB_OFFLINE": "1", "HF_TOKEN": "x", **environment}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
