import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from hf_infodist import models
from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.models import Classifier, check_name, load_classifier

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GREY = Image.new("RGB", (50, 40), "grey")


@pytest.fixture(scope="module")
def timm_source(tmp_path_factory) -> Path:
    import timm

    folder = tmp_path_factory.mktemp("timm")
    module = timm.create_model("test_resnet", num_classes=3)
    timm.models.save_for_hf(
        module, folder, model_config={"label_names": ["cat", "dog", "car"]}, safe_serialization="both"
    )
    return folder


@pytest.fixture(scope="module")
def vit_source(tmp_path_factory) -> Path:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("vit")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    config = ViTConfig(**sizes, image_size=32, patch_size=8, id2label={0: "cat", 1: "dog", 2: "car"})
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def timm_folder(timm_source, tmp_path) -> Path:
    return Path(shutil.copytree(timm_source, tmp_path / "timm"))


@pytest.fixture
def vit_folder(vit_source, tmp_path) -> Path:
    return Path(shutil.copytree(vit_source, tmp_path / "vit"))


@pytest.fixture
def folder(request, timm_folder, vit_folder) -> Path:
    return {"timm": timm_folder, "vit": vit_folder}[request.param]


both_layouts = pytest.mark.parametrize("folder", ["timm", "vit"], indirect=True)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put_into_cache(cache: Path, repo: str, folder: Path) -> None:
    place = cache / f"models--{repo.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)


def edit(folder: Path, **changes) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def pixels_of(classifier: Classifier) -> torch.Tensor:
    return classifier.preprocessing.transform(GREY)[None]


# What loads


@pytest.mark.parametrize(
    ("name", "library", "num_classes"),
    [
        ("demo:cnn", "timm", 10),
        ("demo:vit", "transformers", 10),
        ("random:demo:vit", "transformers", 10),
        ("random:timm:test_resnet.r160_in1k", "timm", 1000),
        ("random:torchvision:squeezenet1_1", "torchvision", 1000),
        ("random:torchvision:shufflenet_v2_x0_5@IMAGENET1K_V1", "torchvision", 1000),
        pytest.param("random:torchvision:inception_v3", "torchvision", 1000, marks=pytest.mark.slow),
        pytest.param("random:torchvision:googlenet", "torchvision", 1000, marks=pytest.mark.slow),
        pytest.param(
            "random:torchvision:vit_b_16@IMAGENET1K_SWAG_E2E_V1", "torchvision", 1000, marks=pytest.mark.slow
        ),
        pytest.param("random:timm:deit_tiny_distilled_patch16_224", "timm", 1000, marks=pytest.mark.slow),
        pytest.param("random:timm:resnetv2_50x1_bit.goog_in21k", "timm", 21843, marks=pytest.mark.slow),
    ],
)
def test_a_name_is_enough(name, library, num_classes):
    classifier = load_classifier(name)
    assert (classifier.id, classifier.library, classifier.revision) == (name, library, None)
    assert classifier.num_classes == num_classes == len(set(enumerate(classifier.labels)))
    pixels = pixels_of(classifier)
    assert pixels.dtype == torch.float32 and pixels.shape[1] == 3
    with torch.no_grad():
        assert classifier.network(pixels).shape == (1, num_classes)
    assert not classifier.network.training
    assert json.loads(json.dumps(classifier.preprocessing.settings)) == classifier.preprocessing.settings


@both_layouts
def test_a_folder_keeps_its_labels_and_logits(folder):
    classifier = load_classifier(str(folder))
    assert classifier.labels == ("cat", "dog", "car") and classifier.num_classes == 3
    again = load_classifier(str(folder))
    assert classifier.weights_hash == again.weights_hash
    assert classifier.preprocessing.settings == again.preprocessing.settings
    with torch.no_grad():
        assert torch.equal(classifier.network(pixels_of(classifier)), again.network(pixels_of(again)))


@both_layouts
def test_a_cached_repository_loads_offline_at_its_commit(folder, hub_cache):
    put_into_cache(hub_cache, "acme/tiny", folder)
    for name in ("acme/tiny", "acme/tiny@main", f"acme/tiny@{COMMIT}"):
        classifier = load_classifier(name)
        assert (classifier.id, classifier.revision) == (name, COMMIT)
        assert classifier.weights_hash == load_classifier(str(folder)).weights_hash


@both_layouts
def test_fresh_weights_need_only_configuration_files(folder, hub_cache):
    put_into_cache(hub_cache, "acme/tiny", folder)
    for path in (hub_cache / "models--acme--tiny" / "snapshots" / COMMIT).iterdir():
        if path.suffix != ".json":
            path.unlink()
    classifier = load_classifier("random:acme/tiny")
    assert classifier.revision == COMMIT and classifier.labels == ("cat", "dog", "car")
    with pytest.raises(UnfitError, match="no PyTorch weights"):
        load_classifier("acme/tiny")


def test_timm_names_resolve_to_their_repository(timm_folder, hub_cache):
    edit(timm_folder, num_classes=1000, model_args=None)
    put_into_cache(hub_cache, "timm/resnet18.a1_in1k", timm_folder)
    assert models._locate("timm:resnet18", has_transform=False).revision == COMMIT


def test_torchvision_weights_load_from_torchs_cache(tmp_path, monkeypatch):
    from torchvision.models import SqueezeNet1_1_Weights as Weights
    from torchvision.models import squeezenet1_1

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / Weights.DEFAULT.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    state = squeezenet1_1().state_dict()
    torch.save(state, path)
    loaded = load_classifier("torchvision:squeezenet1_1")
    assert all(torch.equal(state[name], tensor) for name, tensor in loaded.network.module.state_dict().items())
    assert loaded.labels[:2] == ("tench", "goldfish")


@pytest.mark.parametrize("pickled", [False, True])
@both_layouts
def test_pickled_weights_load_like_safetensors(folder, pickled):
    from safetensors.torch import load_file

    expected = load_classifier(str(folder)).weights_hash
    if pickled:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    assert load_classifier(str(folder)).weights_hash == expected


def test_half_precision_checkpoints_are_computed_in_float32(vit_folder):
    from transformers import ViTForImageClassification

    ViTForImageClassification.from_pretrained(vit_folder).half().save_pretrained(vit_folder)
    classifier = load_classifier(str(vit_folder))
    assert {parameter.dtype for parameter in classifier.network.parameters()} == {torch.float32}


# Fresh weights


def test_a_seed_decides_fresh_weights_and_nothing_else():
    before = torch.get_rng_state()
    name = "random:timm:test_resnet"
    one, same, other = load_classifier(name), load_classifier(name, seed=0), load_classifier(name, seed=1)
    assert one.weights_hash == same.weights_hash != other.weights_hash
    assert torch.equal(torch.get_rng_state(), before)


@both_layouts
def test_fresh_weights_keep_everything_but_the_weights(folder):
    trained, fresh = load_classifier(str(folder)), load_classifier(f"random:{folder}")
    assert fresh.labels == trained.labels and fresh.heads == trained.heads
    assert fresh.preprocessing.settings == trained.preprocessing.settings
    assert fresh.weights_hash != trained.weights_hash


# Loaded modules


class Plain(nn.Module):
    def __init__(self, classes=4, scale=1.0):
        super().__init__()
        self.head, self.scale = nn.Linear(3, classes), scale

    def forward(self, pixels):
        return self.scale * self.head(pixels.mean((2, 3)))


def to_pixels(image):
    from torchvision.transforms.functional import pil_to_tensor

    return pil_to_tensor(image.resize((8, 8))).float() / 255


def test_a_plain_module_needs_a_transform_and_stays_as_it_is():
    module = Plain().train()
    with pytest.raises(UsageError, match="without preprocessing"):
        load_classifier(module)
    classifier = load_classifier(module, transform=to_pixels, labels=list("abcd"))
    assert (classifier.id, classifier.library, classifier.labels) == ("Plain", "torch", ("a", "b", "c", "d"))
    assert classifier.heads == ("module.head",) and module.training
    assert load_classifier(classifier) is classifier


def test_normalisation_of_a_composed_transform_is_read():
    from torchvision import transforms

    transform = transforms.Compose([to_pixels, transforms.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))])
    preprocessing = load_classifier(Plain(), transform=transform).preprocessing
    assert preprocessing.mean == pytest.approx((0.1, 0.2, 0.3)) and preprocessing.std == pytest.approx((0.4, 0.5, 0.6))


def test_two_lambdas_that_differ_are_two_preprocessings():
    settings = [
        load_classifier(Plain(), transform=lambda image, s=s: to_pixels(image) * s).preprocessing.settings
        for s in (1, 1, 2)
    ]
    assert settings[0] == settings[1] != settings[2]


def test_a_timm_module_brings_its_preprocessing():
    import timm

    classifier = load_classifier(timm.create_model("test_resnet", num_classes=3))
    assert (classifier.library, classifier.labels[0]) == ("timm", "LABEL_0")
    assert classifier.preprocessing.settings["input_size"] == [3, 160, 160]


def test_a_transformers_module_takes_an_image_processor(vit_folder):
    from transformers import ViTForImageClassification, ViTImageProcessor

    module, processor = (cls.from_pretrained(vit_folder) for cls in (ViTForImageClassification, ViTImageProcessor))
    classifier = load_classifier(module, transform=processor)
    assert classifier.library == "transformers" and classifier.labels == ("cat", "dog", "car")
    assert classifier.preprocessing.settings == load_classifier(str(vit_folder)).preprocessing.settings


def test_the_hash_sees_weights_and_settings_that_are_no_weights():
    plain = load_classifier(Plain(), transform=to_pixels).network.module
    twin = Plain(scale=2.0)
    twin.load_state_dict(plain.state_dict())
    one, two = (load_classifier(module, transform=to_pixels).weights_hash for module in (plain, twin))
    assert one != two
    assert one == load_classifier(plain, transform=to_pixels).weights_hash


# Students


def test_a_student_with_its_own_rows_is_the_classifier():
    classifier = load_classifier("demo:cnn")
    student, pixels = classifier.student(10, range(10)), pixels_of(classifier)
    with torch.no_grad():
        assert torch.equal(student(pixels), classifier.network(pixels))
    assert student is not classifier.network


@pytest.mark.parametrize("name", ["demo:cnn", "demo:vit"])
def test_teaching_a_student_leaves_the_classifier_as_it_is(name):
    classifier = load_classifier(name)
    before = {key: tensor.clone() for key, tensor in classifier.network.state_dict().items()}
    student, pixels = classifier.student(7, None), pixels_of(classifier)
    assert torch.equal(student(pixels), torch.zeros(1, 7))
    nn.functional.cross_entropy(student(pixels), torch.tensor([3])).backward()
    torch.optim.SGD(student.parameters(), lr=0.1).step()
    assert student(pixels).argmax() == 3
    assert all(torch.equal(before[key], tensor) for key, tensor in classifier.network.state_dict().items())


def test_students_of_frozen_modules_can_learn():
    student = load_classifier(Plain().requires_grad_(False), transform=to_pixels).student(4, range(4))
    assert all(parameter.requires_grad for parameter in student.parameters())


# What does not load, and what to type instead


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("resnet18", UsageError, "timm:resnet18 or torchvision:resnet18, or org/name"),
        ("resnet18x", NotFoundError, "Did you mean timm:resnet18"),
        ("", NotFoundError, "Use org/name"),
        ("tim:resnet18", UsageError, "Did you mean timm:resnet18"),
        ("nowhere:resnet18", UsageError, "Use org/name"),
        ("random:random:demo:cnn", UsageError, "Use random:demo:cnn"),
        ("demo:rnn", NotFoundError, "Use demo:cnn, demo:vit"),
        ("timm:resnet18x", NotFoundError, "Did you mean timm:resnet18"),
        ("timm:resnet18.a1_in2k", NotFoundError, "Did you mean timm:resnet18.a1_in1k"),
        ("timm:vit_small_patch14_dinov2.lvd142m", UnfitError, "only computes features"),
        ("timm:vit_base_patch32_clip_224.openai", UnfitError, "embedding of image and text"),
        ("random:timm:vit_base_patch32_clip_224.openai", UnfitError, "embedding of image and text"),
        ("torchvision:resnet188", NotFoundError, "Did you mean torchvision:resnet18"),
        ("torchvision:resnet50@IMAGENET1K_V3", NotFoundError, "Use torchvision:resnet50@IMAGENET1K_V"),
        ("torchvision:fcn_resnet50", UnfitError, "not an image classifier"),
        ("torchvision:fasterrcnn_resnet50_fpn", UnfitError, "not an image classifier"),
        ("torchvision:r3d_18", UnfitError, "not an image classifier"),
        ("torchvision:quantized_resnet18", UnfitError, "not an image classifier"),
        ("./no/such/folder", NotFoundError, "There is no folder"),
        ("random:./no/such/folder", NotFoundError, "There is no folder"),
        ("acme/nowhere", NotFoundError, "HF_HUB_OFFLINE is set"),
        ("timm:resnet18", NotFoundError, "HF_HUB_OFFLINE is set"),
        ("torchvision:resnet18", NotFoundError, "HF_HUB_OFFLINE is set"),
    ],
)
def test_names_that_lead_nowhere_say_what_to_type(name, error, told, hub_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(error) as raised:
        load_classifier(name)
    assert told in str(raised.value)
    assert len(str(raised.value).splitlines()) == 3


def test_names_are_checked_without_weights(timm_folder):
    for path in [*timm_folder.glob("*.safetensors"), *timm_folder.glob("*.bin")]:
        path.unlink()
    check_name(str(timm_folder))
    check_name("torchvision:resnet18")
    with pytest.raises(NotFoundError):
        check_name("timm:resnet18x")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("RepositoryNotFoundError", "There is no model 'acme/nowhere' on the Hub"),
        ("GatedRepoError", "is gated on the Hub"),
        ("RevisionNotFoundError", "has no revision 'v9'"),
        ("HfHubHTTPError", "the Hub cannot be reached"),
    ],
)
def test_the_hub_being_away_is_told_from_a_typo(kind, told, monkeypatch):
    import huggingface_hub

    class Response:
        headers: dict[str, str] = {}  # noqa: RUF012
        request = None
        status_code = 404

    def refuse(*_, **__):
        raise getattr(huggingface_hub.errors, kind)("no", response=Response())

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(models, "_nearest_repositories", lambda repo: ["acme/somewhere"])
    with pytest.raises(NotFoundError) as raised:
        load_classifier("acme/nowhere@v9")
    assert told in str(raised.value)
    assert ("Did you mean acme/somewhere?" in str(raised.value)) == (kind == "RepositoryNotFoundError")


@pytest.mark.parametrize(
    ("folder", "changes", "told"),
    [
        ("vit", {"auto_map": {"AutoModel": "code.Model"}}, "code from repositories is never run"),
        ("timm", {"auto_map": {"AutoModel": "code.Model"}}, "code from repositories is never run"),
        ("vit", {"architectures": ["ViTModel"]}, "has no trained class head"),
        ("vit", {"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "not an image classifier"),
        ("vit", {"model_type": "nothing"}, "not an image classifier"),
        ("vit", {"id2label": {"0": "cat"}, "label2id": {"cat": 0}}, "One class carries no information"),
        ("vit", {"num_channels": 1}, "do not fit its architecture"),
        ("vit", {"hidden_size": 16}, "do not fit its architecture"),
        ("vit", {"image_size": 64}, "do not fit its architecture"),
        ("timm", {"architecture": "test_resnot"}, "test_resnet"),
        ("timm", {"architecture": None}, "neither an architecture (timm) nor a model_type"),
        ("timm", {"num_classes": 1, "model_args": None}, "One class carries no information"),
        ("timm", {"num_classes": 0, "model_args": None}, "only computes features"),
        ("timm", {"num_classes": 5, "model_args": None}, "do not fit its architecture"),
        ("timm", {"num_classes": 5}, "contradicts itself"),
        ("timm", {"architecture": "test_vit"}, "do not fit its architecture"),
    ],
    indirect=["folder"],
)
def test_configurations_that_do_not_fit_are_refused(folder, changes, told):
    edit(folder, **changes)
    with pytest.raises(UnfitError) as raised:
        load_classifier(str(folder))
    assert told in str(raised.value)
    assert len(str(raised.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("folder", "file", "told"),
    [
        ("vit", "config.json", "has no config.json"),
        ("vit", "preprocessor_config.json", "has no preprocessor_config.json"),
        ("vit", "model.safetensors", "no PyTorch weights"),
    ],
    indirect=["folder"],
)
def test_missing_files_are_named(folder, file, told):
    (folder / file).unlink()
    with pytest.raises(UnfitError, match=told):
        load_classifier(str(folder))


def test_a_transform_replaces_a_missing_preprocessor(vit_folder):
    (vit_folder / "preprocessor_config.json").unlink()
    transform = nn.Sequential()  # any callable
    transform.forward = lambda image: to_pixels(image.resize((32, 32))).repeat(1, 4, 4)
    assert load_classifier(str(vit_folder), transform=transform).num_classes == 3


def test_a_repository_without_configuration_is_told(hub_cache, tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").touch()
    put_into_cache(hub_cache, "acme/onnx", tmp_path / "onnx")
    with pytest.raises(UnfitError, match=r"'acme/onnx' has no config\.json"):
        load_classifier("acme/onnx")


def test_a_broken_configuration_is_told(vit_folder):
    (vit_folder / "config.json").write_text("{")
    with pytest.raises(UnfitError, match=r"broken config\.json"):
        load_classifier(str(vit_folder))


@pytest.mark.parametrize("kept", [0.5, 0.001])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@both_layouts
def test_truncated_weights_are_corrupt(folder, file, kept):
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    for path in [*folder.glob("*.safetensors"), *folder.glob("*.bin")]:
        if path.name != file:
            path.unlink()
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UnfitError, match=f"{file} is corrupt"):
        load_classifier(str(folder))


class RunsCode:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@both_layouts
def test_a_malicious_pickle_is_refused_and_never_run(folder, tmp_path):
    for path in folder.glob("*.safetensors"):
        path.unlink()
    torch.save({"weight": RunsCode(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(UnfitError, match="would run code; it was not run"):
        load_classifier(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_malicious_torchvision_file_is_refused_and_never_run(tmp_path, monkeypatch):
    from torchvision.models import SqueezeNet1_1_Weights as Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / Weights.DEFAULT.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save({"weight": RunsCode(tmp_path / "ran")}, path)
    with pytest.raises(UnfitError, match="would run code; it was not run"):
        load_classifier("torchvision:squeezenet1_1")
    assert not (tmp_path / "ran").exists()


def test_half_a_torchvision_file_is_told(tmp_path, monkeypatch):
    from torchvision.models import SqueezeNet1_1_Weights as Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / Weights.DEFAULT.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    with pytest.raises(UnfitError, match="is corrupt"):
        load_classifier("torchvision:squeezenet1_1")


@both_layouts
def test_a_checkpoint_without_its_head_is_not_made_up(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    headless = {name: tensor for name, tensor in state.items() if not name.startswith(("classifier", "fc"))}
    assert len(headless) == len(state) - 2
    save_file(headless, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnfitError, match=r"classifier\.bias|fc\.weight"):
        load_classifier(str(folder))


def test_a_preprocessing_of_another_size_does_not_fit(vit_folder):
    from transformers import ViTImageProcessor

    ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(vit_folder)
    with pytest.raises(UnfitError, match="cannot take the images that its preprocessing makes"):
        load_classifier(str(vit_folder))


@pytest.mark.parametrize(
    ("module", "transform", "told"),
    [
        (Plain(), lambda image: to_pixels(image)[:1], "does not take RGB images"),
        (Plain(), lambda image: image, "does not take RGB images"),
        (Plain(), lambda image: 1 / 0, "its preprocessing fails"),
        (Plain(scale=float("nan")), to_pixels, "not finite"),
        (Plain(classes=1), to_pixels, "One class carries no information"),
        (nn.Conv2d(3, 4, 1), to_pixels, "not an image classifier"),
        (nn.Conv2d(1, 4, 1), to_pixels, "cannot take the images"),
        (nn.Sequential(Plain(), nn.Softmax(1)), to_pixels, "its logits do not come from linear layers"),
    ],
)
def test_modules_that_do_not_fit_are_refused(module, transform, told):
    with pytest.raises(UnfitError) as raised:
        load_classifier(module, transform=transform)
    assert told in str(raised.value)


def test_labels_must_be_one_per_class():
    with pytest.raises(UsageError, match="2 labels were given"):
        load_classifier(Plain(), transform=to_pixels, labels=["a", "b"])


@pytest.mark.parametrize("name", ["demo:cnn", "demo:vit", "random:torchvision:squeezenet1_1"])
def test_loading_is_silent(name, capfd):
    load_classifier(name)
    assert capfd.readouterr() == ("", "")
