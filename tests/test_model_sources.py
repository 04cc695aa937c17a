import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.models.load import check_name, load_classifier
from hf_infodist.models.names import DEMO, locate

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(request, tmp_path) -> Path:
    return Path(shutil.copytree(DEMO / request.param, tmp_path / request.param))


both_layouts = pytest.mark.parametrize("folder", ["cnn", "vit"], indirect=True)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def squeezenet_file(tmp_path, monkeypatch) -> Path:
    from torchvision.models import SqueezeNet1_1_Weights as Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / Weights.DEFAULT.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    return path


def put_into_cache(cache: Path, repo: str, folder: Path) -> None:
    place = cache / f"models--{repo.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)


def keep_one_weight_file(folder: Path, kept: str) -> Path:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / ({"model.safetensors", "pytorch_model.bin"} - {kept}).pop()).unlink()
    return folder / kept


def edit(folder: Path, **changes) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


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
    assert classifier.revision == COMMIT and classifier.labels[:3] == ("zero", "one", "two")
    with pytest.raises(UnfitError, match="no PyTorch weights"):
        load_classifier("acme/tiny")


@pytest.mark.parametrize("folder", ["cnn"], indirect=True)
def test_timm_names_resolve_to_their_repository(folder, hub_cache):
    edit(folder, num_classes=1000, model_args=None)
    put_into_cache(hub_cache, "timm/resnet18.a1_in1k", folder)
    assert locate("timm:resnet18", has_transform=False).revision == COMMIT


def test_torchvision_weights_load_from_torchs_cache(squeezenet_file):
    from torchvision.models import squeezenet1_1

    state = squeezenet1_1().state_dict()
    torch.save(state, squeezenet_file)
    loaded = load_classifier("torchvision:squeezenet1_1")
    assert all(torch.equal(state[name], tensor) for name, tensor in loaded.network.module.state_dict().items())
    assert loaded.labels[:2] == ("tench", "goldfish")


@pytest.mark.parametrize("protocol", [2, 3])
@both_layouts
def test_pickled_weights_load_like_safetensors(folder, protocol):
    expected = load_classifier(str(folder)).weights_hash
    path = keep_one_weight_file(folder, "pytorch_model.bin")
    torch.save(torch.load(path), path, pickle_protocol=protocol)
    assert load_classifier(str(folder)).weights_hash == expected


# What leads nowhere, and what to type instead


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("resnet18", UsageError, "timm:resnet18 or torchvision:resnet18, or org/name"),
        ("resnet18x", NotFoundError, "did you mean timm:resnet18"),
        ("", NotFoundError, "use org/name"),
        ("tim:resnet18", UsageError, "did you mean timm:resnet18"),
        ("nowhere:resnet18", UsageError, "use org/name"),
        ("random:random:demo:cnn", UsageError, "use random:demo:cnn"),
        ("demo:rnn", NotFoundError, "use demo:cnn, demo:vit"),
        ("timm:resnet18x", NotFoundError, "did you mean timm:resnet18"),
        ("timm:resnet18.a1_in2k", NotFoundError, "did you mean timm:resnet18.a1_in1k"),
        ("timm:vit_small_patch14_dinov2.lvd142m", UnfitError, "only computes features"),
        ("timm:vit_base_patch32_clip_224.openai", UnfitError, "embedding of image and text"),
        ("random:timm:vit_base_patch32_clip_224.openai", UnfitError, "embedding of image and text"),
        ("torchvision:resnet188", NotFoundError, "did you mean torchvision:resnet18"),
        ("torchvision:resnet50@IMAGENET1K_V3", NotFoundError, "did you mean torchvision:resnet50@IMAGENET1K_V"),
        ("torchvision:fcn_resnet50", UnfitError, "not an image classifier"),
        ("torchvision:fasterrcnn_resnet50_fpn", UnfitError, "not an image classifier"),
        ("torchvision:r3d_18", UnfitError, "not an image classifier"),
        ("torchvision:quantized_resnet18", UnfitError, "not an image classifier"),
        ("./no/such/folder", NotFoundError, "there is no folder"),
        ("random:./no/such/folder", NotFoundError, "there is no folder"),
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


@both_layouts
def test_names_are_checked_without_weights(folder):
    (folder / "model.safetensors").unlink()
    check_name(str(folder))
    check_name("torchvision:resnet18")
    with pytest.raises(NotFoundError):
        check_name("timm:resnet18x")


@pytest.mark.parametrize(
    ("folder", "changes", "told"),
    [
        ("vit", {"auto_map": {"AutoModel": "code.Model"}}, "code from repositories is never run"),
        ("cnn", {"auto_map": {"AutoModel": "code.Model"}}, "code from repositories is never run"),
        ("vit", {"architectures": ["ViTModel"]}, "has no trained class head"),
        ("vit", {"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "not an image classifier"),
        ("vit", {"model_type": "nothing"}, "not an image classifier"),
        ("vit", {"id2label": {"0": "cat"}, "label2id": {"cat": 0}}, "one class carries no information"),
        ("vit", {"problem_type": "multi_label_classification"}, "not one distribution over classes"),
        ("vit", {"problem_type": "regression"}, "not one distribution over classes"),
        ("vit", {"num_channels": 1}, "contradicts itself"),
        ("vit", {"hidden_size": 16}, "contradicts itself"),
        ("vit", {"image_size": 64}, "contradicts itself"),
        ("cnn", {"architecture": "test_resnot"}, "test_resnet"),
        ("cnn", {"architecture": None}, "neither an architecture (timm) nor a model_type"),
        ("cnn", {"num_classes": 1, "model_args": None}, "one class carries no information"),
        ("cnn", {"num_classes": 0, "model_args": None}, "only computes features"),
        ("cnn", {"num_classes": 5, "model_args": None}, "do not fit its architecture"),
        ("cnn", {"num_classes": 5}, "contradicts itself"),
        ("cnn", {"architecture": "test_vit", "model_args": None}, "do not fit its architecture"),
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


def test_a_repository_without_configuration_is_told(hub_cache, tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").touch()
    put_into_cache(hub_cache, "acme/onnx", tmp_path / "onnx")
    with pytest.raises(UnfitError, match=r"'acme/onnx' has no config\.json"):
        load_classifier("acme/onnx")


@both_layouts
def test_a_broken_configuration_is_told(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(UnfitError, match=r"broken config\.json"):
        load_classifier(str(folder))


@pytest.mark.parametrize("kept", [0.5, 0.001])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@both_layouts
def test_truncated_weights_are_corrupt(folder, file, kept):
    path = keep_one_weight_file(folder, file)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UnfitError, match=f"{file} is corrupt"):
        load_classifier(str(folder))


class RunsCode:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(("save", "option"), [(torch.save, "pickle_protocol"), (pickle.dump, "protocol")])
@both_layouts
def test_a_malicious_pickle_is_refused_and_never_run(folder, save, option, protocol, tmp_path):
    with keep_one_weight_file(folder, "pytorch_model.bin").open("wb") as file:
        save({"weight": RunsCode(tmp_path / "ran")}, file, **{option: protocol})
    with pytest.raises(UnfitError, match=r"unsafe\nit is a pickle that may run code; it was not run"):
        load_classifier(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_malicious_torchvision_file_is_refused_and_never_run(squeezenet_file, tmp_path):
    torch.save({"weight": RunsCode(tmp_path / "ran")}, squeezenet_file)
    with pytest.raises(UnfitError, match="it was not run"):
        load_classifier("torchvision:squeezenet1_1")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"half", b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1"])
def test_what_is_no_weight_file_at_all_is_corrupt(squeezenet_file, content):
    squeezenet_file.write_bytes(content)
    with pytest.raises(UnfitError, match="is corrupt"):
        load_classifier("torchvision:squeezenet1_1")


@both_layouts
def test_a_checkpoint_without_its_head_is_not_made_up(folder):
    state = load_file(folder / "model.safetensors")
    headless = {name: tensor for name, tensor in state.items() if not name.startswith(("classifier", "fc"))}
    assert len(headless) == len(state) - 2
    save_file(headless, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnfitError, match=r"classifier\.bias|fc\.weight"):
        load_classifier(str(folder))
