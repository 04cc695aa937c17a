"""`hf infodist`: the installed hf finds this package as an extension and runs it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from card_examples import ROOT
from huggingface_hub.cli.extensions import ExtensionManifest

SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home in which `hf extensions install acme/hf-infodist` was typed: it leaves this manifest."""
    home = tmp_path_factory.mktemp("home")
    manifest = ExtensionManifest(
        owner="acme",
        repo="hf-infodist",
        repo_id="acme/hf-infodist",
        short_name="infodist",
        executable_path=str(SCRIPTS / "hf-infodist"),
        type="python",
        installed_at=datetime.now(UTC),
    )
    manifest.save(home / ".local" / "share" / "hf" / "extensions" / "hf-infodist")
    return home


def hf(home, *words, rc=0):
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    own = {"HOME": str(home), "HF_HOME": str(home / "hf"), "PYTHONPATH": path, "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    env = os.environ | own | {"COLUMNS": "120"}
    done = subprocess.run([SCRIPTS / "hf", *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == rc, done.stderr
    return done.stdout, done.stderr


def test_the_script_has_the_name_that_hf_asks_an_installed_package_for():
    (script,) = entry_points(group="console_scripts", name="hf-infodist")
    assert script.value == "hf_infodist.cli:main"
    assert not (ROOT / "hf-infodist").exists()  # hf would take such a file for the extension, and install no package


def test_hf_lists_it_and_runs_its_commands(home):
    assert "infodist" in hf(home, "--help")[0] and "acme/hf-infodist" in hf(home, "extensions", "list")[0]
    assert hf(home, "infodist", "--help")[0].startswith("Usage: hf infodist [OPTIONS] COMMAND")
    assert json.loads(hf(home, "infodist", "publish", "space", "acme/x", "--json")[0])["repo"] == "acme/x"
    assert "Usage: hf infodist compare" in hf(home, "infodist", "compare", rc=2)[1]


@pytest.mark.slow
def test_hf_compares_two_models(home):
    compare = ["compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", "32", "--json"]
    assert json.loads(hf(home, "infodist", *compare)[0])["schema"] == "infodist.result/1"
    _, told = hf(home, "infodist", "compare", "demo:nobody", "demo:vit", "-i", "digits", rc=3)
    assert len(told[told.index("error: ") :].splitlines()) == 3
