"""The page and the metric on a Hub: put there by one command, then installed, started and asked as the Hub would."""

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
from card_examples import ROOT
from front_matter import front_matter, wrong_in_space
from hub import GUEST, OWNER, serve
from show_server import wait_for
from test_hub import command
from test_show_browser import free_port

from hf_infodist import publish
from hf_infodist.cli import main
from hf_infodist.errors import NotFoundError, UsageError

WHEEL = re.compile(r"hf_infodist-[\d.]+-py3-none-any\.whl")


def run(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    return capsys.readouterr(), stopped.value.code


def wheel_of(files):
    (name,) = filter(WHEEL.fullmatch, files)
    return name, files[name]


# What would be sent


@pytest.mark.parametrize("kind", publish.FOLDERS)
def test_the_requirements_lead_to_the_wheel_that_is_sent_with_them(kind):
    publication = publish.prepare(kind, "acme/x")
    name, wheel = wheel_of(publication.files)
    there = f"https://huggingface.co/spaces/acme/x/resolve/main/{name}#sha256={hashlib.sha256(wheel).hexdigest()}"
    (line,) = [line for line in publication.requirements.splitlines() if line.startswith("hf-infodist")]
    assert line == f"hf-infodist{'[show]' * (kind == 'space')} @ {there}"


def test_the_wheel_holds_the_package_both_folders_and_a_true_record():
    _, wheel = wheel_of(publish.prepare("space", "acme/x").files)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    package = {path for path in contents if path.startswith("hf_infodist/")}
    known = {path.relative_to(ROOT).as_posix() for path in (ROOT / "hf_infodist").rglob("*") if path.is_file()}
    folders = {f"hf_infodist/published/{kind}" for kind in publish.FOLDERS}
    inside = {path for path in package if path.rpartition("/")[0] in folders}
    assert package - inside == {path for path in known if "__pycache__" not in path and "/." not in path}
    assert {f"{folder}/{name}" for folder in folders for name in ("app.py", "README.md")} <= inside
    (record,) = [path for path in contents if path.endswith(".dist-info/RECORD")]
    rows = list(csv.reader(io.StringIO(contents[record].decode())))
    assert {path for path, *_ in rows} == set(contents)
    assert all(int(size) == len(contents[path]) for path, _, size in rows if size)


def test_the_same_package_gives_the_same_bytes():
    first, second = (wheel_of(publish.prepare(kind, f"acme/{kind}").files)[1] for kind in publish.FOLDERS)
    assert first == second


def test_a_private_space_has_the_package_beside_the_page_since_nobody_may_fetch_a_wheel_from_it():
    publication = publish.prepare("space", "acme/x", private=True)
    assert not [path for path in publication.files if WHEEL.fullmatch(path)]
    assert {"app.py", "hf_infodist/__init__.py"} <= set(publication.files)
    needed = publication.requirements.splitlines()
    assert "hf-infodist" not in publication.requirements and not [line for line in needed if ";" in line]
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in needed}
    assert {"torch", "gradio", "plotly", "typer"} <= names and not {"pytest", "ray"} & names


def test_the_script_of_the_metric_has_the_name_that_evaluate_looks_for():
    files = publish.prepare("metric", "acme/distance-of-mine").files
    assert "distance-of-mine.py" in files and "infodist.py" not in files
    for name in ("acme/app", "acme/hf_infodist"):
        with pytest.raises(UsageError, match="would hide another"):
            publish.prepare("metric", name)


@pytest.mark.parametrize("kind", publish.FOLDERS)
def test_the_front_matter_is_as_the_hub_wants_it(kind):
    front = front_matter(publish.prepare(kind, "acme/x").files["README.md"].decode())
    assert not wrong_in_space(front)
    assert wrong_in_space(front | {"colorTo": "white", "sdk": "flask", "python_version": 3.1})
    assert front["python_version"] == "3.12" and (ROOT / publish.FOLDERS[kind] / front["app_file"]).is_file()


def test_without_push_it_is_shown_and_nothing_is_asked(capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: pytest.fail("a Hub was asked"))
    shown, code = run(capsys, "publish", "space", "acme/infodist", "--private")
    assert not code and "private Space https://huggingface.co/spaces/acme/infodist" in shown.out
    assert "to send it: infodist publish space acme/infodist --private --push" in shown.err
    shown, code = run(capsys, "publish", "metric", "acme/x", "--json")
    fields = json.loads(shown.out)
    assert fields["schema"] == publish.SCHEMA and fields["commit"] is None
    assert fields["files"]["x.py"] == (ROOT / "metrics" / "infodist" / "infodist.py").stat().st_size


@pytest.mark.parametrize("name", ["infodist", "acme/a/b", "acme/", "a b/c", "https://huggingface.co/spaces/acme/x"])
def test_what_is_no_name_of_a_space_is_refused(name):
    with pytest.raises(UsageError, match="is no name of a Space"):
        publish.prepare("space", name)


def test_without_a_token_nothing_is_sent(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UsageError, match="run: hf auth login"):
        publish.publish("space", "acme/x")


def test_a_package_that_is_not_installed_or_an_older_one_is_refused(monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\ndependencies = ["another>=1"]\n')
    monkeypatch.setattr(publish, "_PACKAGE", tmp_path / "hf_infodist")
    with pytest.raises(UsageError, match=r"does not know another>=1\ntype pip install -e \."):
        publish.prepare("space", "acme/x")
    monkeypatch.setattr(publish, "_PROJECT", "nobodys-package")
    with pytest.raises(NotFoundError, match=r"there is no package nobodys-package"):
        publish.prepare("space", "acme/x")


# What a Hub makes of it


class Environment:
    """A fresh virtual environment that sees what this one has, but not this package."""

    def __init__(self, folder):
        links = folder / "links"
        links.mkdir(parents=True)
        for entry in (Path(place) for place in reversed(sys.path) if place.endswith("-packages")):
            for there in entry.iterdir():
                link = links / there.name
                if not there.name.lstrip("_").startswith(("hf_infodist", "pip")) and there.suffix != ".pth":
                    link.unlink(missing_ok=True)
                    link.symlink_to(there)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.python = folder / "venv" / "bin" / "python"
        packages = folder / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        (packages / "others.pth").write_text(f"{links}\n")

    def run(self, *words, rc=0, cwd=None, **environment):
        """Run a command of this environment, without the clone on its path."""
        env = {name: value for name, value in (os.environ | environment).items() if name != "PYTHONPATH"}
        words = [self.python.parent / words[0], *words[1:]]
        done = subprocess.run(words, env=env, cwd=cwd or self.python.parent, capture_output=True, text=True)
        assert done.returncode == rc, done.stderr
        return done.stdout + done.stderr * (rc != 0)

    def install(self, *words, rc=0):
        """Install what is named, and nothing that it needs: that is there."""
        alone = "--no-index", "--no-deps", "--no-cache-dir"
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", *alone, *words]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(pip, env=env, capture_output=True, text=True)
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout + done.stderr


def ask(environment, folder, store):
    """Start the page of a folder as the Hub would; return what its API says of the demo pair."""
    from gradio_client import Client

    port = free_port()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "INFODIST_HOME": str(store),
    }
    server = subprocess.Popen([environment.python, "app.py"], cwd=folder, env=env, stdout=subprocess.DEVNULL)
    try:
        wait_for(address := f"http://127.0.0.1:{port}", server)
        settings = {"images": "digits", "k": 48, "protocol": "standard", "seed": 0}
        return Client(address, verbose=False).predict("demo:cnn", "demo:vit", **settings, api_name="/compare")
    finally:
        server.terminate()
        server.wait()


slow = pytest.mark.slow
of_clients = pytest.mark.filterwarnings("ignore::DeprecationWarning")
of_sockets = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="module")
def owner(hub, tmp_path_factory):
    return hub.environment(tmp_path_factory.mktemp("owner"), OWNER)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    words = ["compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", "48", "--json"]
    return json.loads(infodist({"INFODIST_HOME": str(tmp_path_factory.mktemp("store"))}, *words)[0])["distance"]


def infodist(environment, *words, rc=0):
    return command(environment, sys.executable, "-m", "hf_infodist.cli", *words, rc=rc)


def download(environment, repo, folder):
    """Fetch all files of a Space, as the Hub does before it builds one."""
    code = "import sys\nfrom huggingface_hub import snapshot_download as get\n"
    words = [sys.executable, "-c", f"{code}get(sys.argv[1], repo_type='space', local_dir=sys.argv[2])", repo, folder]
    command(environment, *words)
    return folder


@pytest.fixture(scope="module")
def published(hub, owner):
    """Publish both, from the clone."""
    for kind, name in (("space", "acme/infodist"), ("metric", "acme/infodist-metric")):
        said, _ = infodist(owner, "publish", kind, name, "--push")
        assert f"published: {hub.url}/spaces/{name}/commit/{hub[f'spaces/{name}'].refs['main']}" in said
    return hub


@pytest.fixture(scope="module")
def fresh(published, owner, tmp_path_factory):
    """Install what the published requirements name, in a fresh environment."""
    environment, folder = Environment(tmp_path_factory.mktemp("fresh")), tmp_path_factory.mktemp("download")
    for name in ("infodist", "infodist-metric"):
        environment.install("-r", download(owner, f"acme/{name}", folder / name) / "requirements.txt")
    where = environment.run("python", "-c", "import hf_infodist; print(hf_infodist.__file__)")
    assert Path(where.strip()).is_relative_to(environment.python.parents[1].resolve())
    return environment, folder


@slow
@of_clients
@of_sockets
def test_the_published_page_starts_from_its_own_wheel_and_answers(fresh, expected, tmp_path):
    environment, folder = fresh
    assert ask(environment, folder / "infodist", tmp_path)["distance"] == expected


@slow
def test_the_published_metric_is_loaded_by_name(published, fresh, expected, tmp_path):
    environment, _ = fresh
    code = (
        "import evaluate, json\nmetric = evaluate.load('acme/infodist-metric')\n"
        "print(json.dumps(metric.compute(predictions=['demo:cnn'], references=['demo:vit'], images='digits', k=48)))\n"
        "metric = evaluate.load('acme/infodist-metric', 'labels')\n"
        "print(json.dumps(metric.compute(predictions=['demo:cnn'], images='digits', k=48)))"
    )
    before = len(published.log)
    reader = published.environment(tmp_path / "reader") | {"INFODIST_HOME": str(tmp_path / "store")}
    results, labels = map(json.loads, environment.run("python", "-c", code, **reader).splitlines())
    assert 0 < labels["nats"][0] < 10 and labels["accuracy"] == [1.0]
    assert results["infodist"] == pytest.approx([expected["nats"]], rel=1e-6)
    script = "GET /spaces/acme/infodist-metric/resolve/main/infodist-metric.py 200"
    assert script in published.log[before:]


@slow
def test_a_wheel_that_was_changed_on_the_way_is_not_installed(published, fresh, tmp_path):
    lines = (fresh[1] / "infodist" / "requirements.txt").read_text()
    (tmp_path / "requirements.txt").write_text(re.sub("sha256=.", "sha256=x", lines))
    environment = Environment(tmp_path)
    assert "DO NOT MATCH" in environment.install("-r", tmp_path / "requirements.txt", rc=1)


@slow
def test_publishing_again_changes_nothing_and_a_new_version_takes_the_place_of_the_old(
    published, owner, fresh, tmp_path
):
    environment, folder = fresh
    space, words = published["spaces/acme/infodist"], ["publish", "space", "acme/infodist", "--push"]
    before = space.refs["main"]
    environment.run("infodist", *words, **owner)  # from the installed wheel this time
    assert space.refs["main"] == before
    name, wheel = wheel_of({path.name: path.read_bytes() for path in (folder / "infodist").glob("*.whl")})
    old = re.search(r"[\d.]+", name)[0].strip(".")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        contents = {path: archive.read(path) for path in archive.namelist() if not path.endswith("/RECORD")}
    newer = {path.replace(f"-{old}.dist-info", "-99.0.dist-info"): content for path, content in contents.items()}
    metadata = "hf_infodist-99.0.dist-info/METADATA"
    newer[metadata] = newer[metadata].replace(f"Version: {old}".encode(), b"Version: 99.0", 1)
    (made := tmp_path / "hf_infodist-99.0-py3-none-any.whl").write_bytes(publish.pack(newer))
    later = Environment(tmp_path / "later")
    later.install(made)
    later.run("infodist", *words, **owner)
    assert space.refs["main"] != before
    assert [path for path in space.files() if WHEEL.fullmatch(path)] == [made.name]
    assert f"/{made.name}#sha256={hashlib.sha256(made.read_bytes()).hexdigest()}" in space.text("requirements.txt")


@slow
@of_clients
@of_sockets
def test_a_private_space_starts_without_fetching_a_wheel(hub, owner, expected, tmp_path):
    words = ["publish", "space", "acme/hidden", "--push"]
    infodist(owner, *words, "--private")
    space = hub["spaces/acme/hidden"]
    assert space.private
    folder, environment = download(owner, "acme/hidden", tmp_path / "download"), Environment(tmp_path)
    environment.run("python", "-c", "import hf_infodist", rc=1)  # is found beside the page only
    assert ask(environment, folder, tmp_path / "store")["distance"] == expected
    commit = space.refs["main"]
    assert "private Space" in infodist(owner, *words)[0] and space.refs["main"] == commit  # stays as private as it is
    space.private = False
    infodist(owner, *words)
    assert not [path for path in space.files() if path.startswith("hf_infodist/")]
    assert len([path for path in space.files() if WHEEL.fullmatch(path)]) == 1


@slow
def test_refusals_come_in_three_lines_and_nothing_is_sent(hub, owner, tmp_path):
    hub.put("spaces", "acme/game", {"app.py": b"print('another')"})
    guest, signed_out = hub.environment(tmp_path, GUEST), hub.environment(tmp_path / "nobody")
    stale = hub.environment(tmp_path, "hf_expired")
    dead, offline = owner | {"HF_ENDPOINT": "http://127.0.0.1:9"}, owner | {"HF_HUB_OFFLINE": "1"}
    for environment, name, rc, said in (
        (signed_out, "acme/x", 2, "nobody is signed in"),
        (guest, "acme/x", 3, "it answered 403 You do not have permission"),
        (stale, "acme/x", 3, "does not accept your token"),
        (owner, "acme/game", 2, "it has an app.py, but no hf_infodist"),
        (dead, "acme/x", 3, "the Hub cannot be reached (Conn"),
        (offline, "acme/x", 3, "HF_HUB_OFFLINE is set"),
    ):
        _, told = infodist(environment, "publish", "space", name, "--push", rc=rc)
        assert said in told and len(told[told.index("error: ") :].splitlines()) == 3
    assert ("spaces", "acme/x") not in hub.repositories and list(hub["spaces/acme/game"].files()) == ["app.py"]


@slow
def test_front_matter_that_the_hub_refuses_is_told(owner):
    card = "---\ntitle: x\nsdk: gradio\ncolorTo: white\n---\n"
    code = f"from hf_infodist import publish\npublish._check_card({card!r})"
    _, told = command(owner, sys.executable, "-c", code, rc=1)
    assert "UnfitError: the Hub refuses the front matter" in told and "colorTo" in told
