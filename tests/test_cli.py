"""The command line: results, exit codes, and three lines for every bad input."""

import json
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import hf_infodist.outputs
from hf_infodist.cli import main
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.words import percent, rounded, to_bits

DEMO = Path(hf_infodist.__file__).parent / "models" / "demo"


def run(capsys, *words):
    """Run the command line in this process; return exit code, standard output, standard error."""
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, err


def copy_demo(folder, name="vit", **config):
    """Write an own copy of a demo checkpoint, with changes to its config.json."""
    folder.mkdir()
    for file in (DEMO / name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | config))
    return folder


def image_folder(folder, count=4):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


class Bomb:
    """A pickle that leaves a trace when it is loaded by a careless reader."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def write_bomb(tmp_path):
    folder = copy_demo(tmp_path / "bomb")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Bomb(tmp_path / "exploded")}))
    return folder


def write_torch_bomb(tmp_path):
    folder = copy_demo(tmp_path / "bomb", "cnn")
    (folder / "model.safetensors").unlink()
    torch.save({"conv1.weight": Bomb(tmp_path / "exploded")}, folder / "pytorch_model.bin")
    return folder


def write_truncated(tmp_path, name="vit"):
    folder = copy_demo(tmp_path / "truncated", name)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    return folder


def write_nan(tmp_path):
    folder = copy_demo(tmp_path / "nan", "cnn")
    weights = load_file(folder / "model.safetensors")
    weights["fc.bias"][3] = float("nan")
    save_file(weights, folder / "model.safetensors")
    return folder


def write_one_class(tmp_path):
    import timm
    from timm.models import save_for_hf

    save_for_hf(timm.create_model("test_resnet", num_classes=1), tmp_path / "one")
    return tmp_path / "one"


def write_onnx(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"onnx")
    return tmp_path / "onnx"


def write_detector(tmp_path):
    return copy_demo(tmp_path / "detector", architectures=["YolosForObjectDetection"], model_type="yolos")


def write_remote_code(tmp_path):
    return copy_demo(tmp_path / "remote", auto_map={"AutoModelForImageClassification": "modeling.Net"})


def write_misfit(tmp_path):
    folder = copy_demo(tmp_path / "misfit")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["size"] = {"height": 48, "width": 48}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def write_table(tmp_path):
    datasets.Dataset.from_dict({"text": ["a", "b"]}).to_parquet(tmp_path / "text.parquet")
    return tmp_path / "text.parquet"


def write_empty(tmp_path):
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": []}, features=features).to_parquet(tmp_path / "empty.parquet")
    return tmp_path / "empty.parquet"


def write_corrupt(tmp_path):
    folder = image_folder(tmp_path / "corrupt")
    picture = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(picture[: len(picture) // 2])
    return folder


BAD_MODELS = {
    "unknown timm name": (lambda _: "timm:resnet18x", 3, "resnet18"),
    "unknown timm weights": (lambda _: "timm:resnet18.a1_in1", 3, "resnet18.a1_in1k"),
    "unknown torchvision name": (lambda _: "torchvision:resnett50", 3, "resnet50"),
    "unknown torchvision weights": (lambda _: "torchvision:resnet50@IMAGENET1K_V3", 3, "IMAGENET1K_V2"),
    "torchvision detector": (lambda _: "torchvision:fasterrcnn_resnet50_fpn", 4, "classif"),
    "unknown demo": (lambda _: "demo:cn", 3, "demo:cnn"),
    "unknown prefix": (lambda _: "tim:resnet18", 2, "timm:resnet18"),
    "ambiguous name": (lambda _: "resnet18", 2, "torchvision:resnet18"),
    "missing folder": (lambda tmp: tmp / "nowhere", 3, "nowhere"),
    "Hub while offline": (lambda _: "acme/some-model", 3, "offline"),
    "no classifier": (write_detector, 4, "detector"),
    "ONNX only": (write_onnx, 4, "ONNX"),
    "remote code": (write_remote_code, 4, "code"),
    "NaN logits": (write_nan, 4, "finite"),
    "truncated transformers weights": (write_truncated, 4, "truncated"),
    "truncated timm weights": (lambda tmp: write_truncated(tmp, "cnn"), 4, "truncated"),
    "pickle that would run code": (write_bomb, 4, "bomb"),
    "torch file that would run code": (write_torch_bomb, 4, "bomb"),
    "one class": (write_one_class, 4, "one class"),
    "does not fit its preprocessing": (write_misfit, 4, "preprocessing"),
}

BAD_IMAGES = {
    "k is zero": (lambda _: "digits", ["-k", 0], 2, "k = 0"),
    "k is negative": (lambda _: "digits", ["-k", -5], 2, "k = -5"),
    "k is too large": (lambda _: "digits", ["-k", 1798], 4, "1797"),
    "seed is negative": (lambda _: "digits", ["--seed", -1], 2, "seed"),
    "unknown protocol": (lambda _: "digits", ["-p", "papre"], 2, "paper"),
    "missing folder": (lambda tmp: tmp / "nowhere", [], 3, "nowhere"),
    "Hub while offline": (lambda _: "acme/photos", [], 3, "offline"),
    "no image column": (write_table, [], 4, "text"),
    "unknown column": (lambda tmp: image_folder(tmp / "images"), ["--column", "pixels"], 3, "image"),
    "unknown split": (lambda tmp: image_folder(tmp / "images"), ["--split", "dev"], 3, "train"),
    "empty dataset": (write_empty, [], 4, "empty"),
    "corrupt image": (write_corrupt, [], 4, "row 2"),
}


def check_error(code, err, expected, clue):
    assert code == expected, err
    message = err[err.index("error: ") :].splitlines()
    assert len(message) == 3 and all(line.strip() for line in message), err
    assert clue.lower() in "\n".join(message).lower()
    assert "Traceback" not in err


@pytest.mark.parametrize("case", BAD_MODELS)
def test_a_bad_model_is_refused_in_three_lines(capsys, tmp_path, case):
    write, code, clue = BAD_MODELS[case]
    got, out, err = run(capsys, "compare", "demo:cnn", write(tmp_path), "--images", "digits", "-k", 8)
    check_error(got, err, code, clue)
    assert not out
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_refused_in_three_lines(capsys, tmp_path, case):
    write, options, code, clue = BAD_IMAGES[case]
    got, out, err = run(capsys, "compare", "demo:cnn", "demo:vit", "--images", write(tmp_path), *options)
    check_error(got, err, code, clue)
    assert not out


@pytest.mark.parametrize("words", [["compare", "demo:cnn"], ["compare", "a", "b", "--nonsense"], ["nonsense"]])
def test_a_command_that_cannot_be_parsed_is_a_usage_error(capsys, words):
    assert run(capsys, *words)[0] == 2


def test_json_is_exactly_one_object_on_standard_output(capsys, tmp_path):
    words = ["compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", 64, "-p", "paper", "--json"]
    code, out, err = run(capsys, *words, "--output", tmp_path / "result.json")
    assert code == 0 and out.count("\n") == 1
    result = json.loads(out)
    assert result["schema"] == "infodist.result/1" and result["images"]["k"] == 64
    assert result["distance"]["nats"] > 0
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert "gradient images" in err  # the cost line


def test_table_says_both_directions_and_the_distance(capsys):
    code, out, _ = run(capsys, "compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", 64, "-p", "standard")
    assert code == 0
    assert "demo:cnn given demo:vit" in out and "demo:vit given demo:cnn" in out
    assert re.match("Turning demo:(cnn into demo:vit|vit into demo:cnn) takes ", out.splitlines()[-1])


def test_a_model_costs_nothing_given_itself(capsys):
    code, out, _ = run(capsys, "compare", "demo:cnn", "demo:cnn", "-i", "digits", "-k", 64, "--json")
    assert code == 0 and 0 <= json.loads(out)["distance"]["nats"] <= 0.01


def test_baselines_are_a_table_and_the_same_in_json(capsys, tmp_path):
    words = ["baselines", "demo:cnn", "demo:vit", "-i", "digits", "-k", 64]
    code, table, _ = run(capsys, *words)
    assert code == 0 and "linear CKA" in table and "different architectures" in table
    code, out, _ = run(capsys, *words, "--json", "-o", tmp_path / "baselines.json")
    result = json.loads(out)
    assert code == 0 and json.loads((tmp_path / "baselines.json").read_text()) == result
    assert result["schema"] == "infodist.baselines/1" and result["images"]["k"] == 64
    assert result["model_a"]["id"] == "demo:cnn" and result["model_b"]["id"] == "demo:vit"
    for row in result["baselines"]:
        assert row["value"] is None or f"{row['value']:.4g}" in table
        assert (row["reason"] or row["meaning"]) in table


def test_compare_adds_baselines_without_running_the_models_again(capsys, monkeypatch):
    words = ["compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", 64, "-p", "standard", "--baselines"]
    runs, run_model = [], hf_infodist.outputs.forward._write_outputs
    monkeypatch.setattr(
        "hf_infodist.outputs.forward._write_outputs", lambda *a, **kw: runs.append(a) or run_model(*a, **kw)
    )
    code, out, _ = run(capsys, *words, "--json")
    result = json.loads(out)
    values = {(row["space"], row["name"]): row["value"] for row in result["baselines"]}
    assert code == 0 and result["schema"] == "infodist.result/1" and len(runs) == 2
    assert 64 * values["output", "KL(B‖A)"] == pytest.approx(result["b_given_a"]["static_nats"])
    _, text, _ = run(capsys, *words)
    assert "demo:cnn given demo:vit" in text and "A is demo:cnn, B is demo:vit" in text and "linear CKA" in text
    _, out, _ = run(capsys, *words[:-1], "--json")
    assert "baselines" not in json.loads(out)


@pytest.mark.slow
def test_estimate_counts_operations_without_weights(capsys):
    code, out, _ = run(capsys, "estimate", "torchvision:resnet18", "demo:cnn", "-k", 320, "-p", "paper", "--json")
    cost = json.loads(out)
    assert code == 0
    resnet = cost["models"][0]
    assert resnet["parameters"] == 11_689_512
    assert resnet["forward_flops"] / 1e9 == pytest.approx(3.63, abs=0.01)
    assert cost["gradient_images"] == 2 * 288 and cost["seconds"] > 0


def test_time_limit_stops_before_the_work(capsys):
    words = ["compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", 1000, "--time-limit", 0.0001]
    code, _, err = run(capsys, *words)
    check_error(code, err, 5, "--time-limit")


def test_env_names_versions_device_and_store(capsys, store):
    code, out, _ = run(capsys, "env", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["versions"]["torch"] in torch.__version__ and facts["store"] == str(store)


def test_the_page_does_not_start_where_it_cannot_listen(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run(capsys, "show", "--port", port)
    assert code == 2 and f"127.0.0.1:{port}" in err and "--port" in err and len(err.splitlines()) == 3
    code, _, err = run(capsys, "show", "--host", "nowhere.invalid")
    assert code == 2 and "nowhere.invalid" in err and len(err.splitlines()) == 3


def test_every_protocol_is_named_in_the_help(capsys):
    _, out, _ = run(capsys, "compare", "--help")
    assert all(name in out for name in PROTOCOLS)


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(hf_infodist.InfodistError):
        main(["compare", "demo:cn", "demo:vit", "--debug"])


def test_help_imports_nothing_heavy():
    code = (
        "import sys, hf_infodist.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'transformers', 'timm', 'datasets', 'numpy'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert all(command in result.stdout for command in ("compare", "baselines", "demo", "estimate", "env"))


@pytest.mark.parametrize("command", ["infodist", "hf-infodist"])
def test_both_console_scripts_answer(command):
    script = Path(sys.executable).parent / command
    result = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0 and "information" in result.stdout


def test_complexities_are_those_of_the_command_and_put_the_distance_into_proportion(capsys):
    how = ("-i", "digits", "-k", 48, "-p", "standard", "--fresh")
    _, table, _ = run(capsys, "complexity", "demo:cnn", "demo:vit", *how[:-1], "--json")
    alone = [row["nats"] for row in json.loads(table)["models"]]
    _, out, _ = run(capsys, "compare", "demo:cnn", "demo:vit", *how, "--complexities", "--json")
    result = json.loads(out)
    found = result["complexities"]
    assert [found["a_nats"], found["b_nats"]] == alone
    assert found["normalised"] == pytest.approx(result["distance"]["nats"] / max(alone))
    assert 0 < found["normalised"] < 0.5
    _, text, _ = run(capsys, "compare", "demo:cnn", "demo:vit", *how[:-1], "--complexities")
    assert f"{percent(found['normalised'])} of the larger" in text
    assert f"{rounded(to_bits(found['b_nats']) / 48)[0][:3]}" in text.splitlines()[-1]
