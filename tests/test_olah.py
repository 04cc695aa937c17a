"""Reading through a hub that somebody else wrote: olah serves git repositories of this machine."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest
from hub import Hub

from hf_infodist.distances.distance import information_distance
from hf_infodist.images.sample import load_images
from hf_infodist.models.names import DEMO

pytestmark = pytest.mark.slow

INFODIST = Path(sys.executable).parent / "infodist"
GIT = ["git", "-c", "user.name=acme", "-c", "user.email=acme@example.org"]


def commit(folder):
    """Make a folder a git repository, with a tag on its only commit; return the commit."""
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "First"], ["tag", "v1"]):
        subprocess.run([*GIT, *words], cwd=folder, check=True)
    return subprocess.run(
        [*GIT, "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """Return a folder of repositories as olah wants them, and their commits."""
    folder, commits = tmp_path_factory.mktemp("mirror"), {}
    for name, demo in (("a", "cnn"), ("b", "vit")):
        commits[name] = commit(shutil.copytree(DEMO / demo, folder / "models" / "acme" / name))
    photos = folder / "datasets" / "acme" / "photos"
    (photos / "data").mkdir(parents=True)
    table = datasets.Dataset.from_dict({"image": list(load_images("digits", k=80))})
    table.cast_column("image", datasets.Image()).to_parquet(photos / "data" / "train-00000-of-00001.parquet")
    (photos / "README.md").write_text("---\nlicense: mit\n---\n")
    commits["photos"] = commit(photos)
    return folder, commits


@pytest.fixture(scope="module")
def olah(mirror, tmp_path_factory):
    """Serve the folder with olah, which asks no other hub; return its address."""
    if importlib.util.find_spec("olah") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("olah is missing: pip install olah")
    folder, port = tmp_path_factory.mktemp("olah"), free_port()
    (folder / "olah.toml").write_text(
        f'[basic]\nhost = "127.0.0.1"\nport = {port}\nrepos-path = "{folder}/repos"\n'
        f'mirrors-path = ["{mirror[0]}"]\n[accessibility]\noffline = true\n'
    )
    server = [sys.executable, "-m", "olah.server", "--config", folder / "olah.toml"]
    with (folder / "log").open("w") as log, subprocess.Popen(server, cwd=folder, stdout=log, stderr=log) as process:
        try:
            wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(port, process, seconds=60):
    for _ in range(10 * seconds):
        assert process.poll() is None, "olah has stopped"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("olah does not answer")


def compare(hub, home, *words):
    environment = os.environ | Hub(home, hub).environment(home)
    command = [INFODIST, "compare", *words, "--images", "acme/photos", "-k", "64", "-p", "standard", "--json"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_names_of_another_hub_give_the_nats_of_local_folders(mirror, olah, tmp_path):
    folder, commits = mirror
    photos = folder / "datasets" / "acme" / "photos" / "data" / "train-00000-of-00001.parquet"
    local = information_distance(str(DEMO / "cnn"), str(DEMO / "vit"), str(photos), k=64, protocol="standard")
    done = compare(olah, tmp_path, "acme/a", "acme/b@v1")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["distance"]["nats"] == pytest.approx(local.nats, rel=1e-6)
    assert result["images"]["fingerprint"] == local.images.fingerprint
    assert [result[model]["revision"] for model in ("model_a", "model_b")] == [commits["a"], commits["b"]]
    assert result["images"]["revision"] == commits["photos"]


def test_what_another_hub_does_not_have_is_told_in_three_lines(olah, tmp_path):
    done = compare(olah, tmp_path, "acme/nowhere", "demo:cnn")
    assert done.returncode == 3 and "no public model 'acme/nowhere'" in done.stderr
    assert len(done.stderr[done.stderr.index("error: ") :].splitlines()) == 3
