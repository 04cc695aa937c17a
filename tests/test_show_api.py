"""The page's API and MCP server: the JSON of the command line, and polite refusals."""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hub import OWNER, serve
from show_browser import free_port
from show_server import serving
from test_hub import command, python
from test_show_request import HOSTILE_NAMES

from hf_infodist.models.names import DEMO

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SETTINGS = {"images": "digits", "k": 48, "protocol": "standard", "seed": 3}
WORDS = ["demo:cnn", "demo:vit", "-i", "digits", "-k", "48", "-p", "standard", "--seed", "3", "--json"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("store"), free_port(), waiting=1, per_visitor=3) as address:
        yield address


def client_of(address):
    from gradio_client import Client

    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def client(address):
    return client_of(address)


def comparable(result):
    return {part: value for part, value in result.items() if part != "cost"} | {
        "cost": {**result["cost"], "seconds": None}
    }


def printed(home, name):
    """What a command prints."""
    environment = {"INFODIST_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return json.loads(command(environment, sys.executable, "-m", "hf_infodist.cli", name, *WORDS)[0])


@pytest.fixture(scope="module")
def by_command(tmp_path_factory):
    return printed(tmp_path_factory.mktemp("other store"), "compare")


@pytest.fixture(scope="module")
def ranked_by_command(tmp_path_factory):
    return without_seconds(printed(tmp_path_factory.mktemp("ranking store"), "transfer"))


def without_seconds(ranking):
    return ranking | {"models": [model | {"seconds": None} for model in ranking["models"]]}


def test_the_api_gives_the_json_of_the_command_line(client, by_command):
    result = client.predict("demo:cnn", "demo:vit", **SETTINGS, api_name="/compare")
    assert comparable(result) == comparable(by_command)


def test_the_api_ranks_starts_as_the_command_line(client, ranked_by_command):
    ranking = client.predict(["demo:cnn", "demo:vit"], **SETTINGS, api_name="/transfer")
    assert without_seconds(ranking) == ranked_by_command
    assert ranking["verdict"] == "Start from demo:cnn; demo:vit is tied with it."


@pytest.mark.parametrize(
    ("models", "setting", "words"),
    [
        (["demo:cnn", "../../etc/passwd"], {}, "not a model that this page takes"),
        (["demo:cnn", "demo:cnn"], {}, "named twice"),
        ([], {}, "no models here yet"),
        ({"a": "demo:cnn"}, {}, "not a model|only one model|invalid"),
        (["demo:cnn", "demo:vit"], {"k": 10**9}, "not offered here"),
        (["demo:cnn", "demo:vit"], {"images": "/etc"}, "not offered here"),
        (["demo:cnn", "demo:vit"], {"label": "kind"}, "no column 'kind'"),
        (["demo:cnn", "demo:vit"], {"protocol": "single"}, "not in the list|not offered|invalid"),
    ],
)
def test_starts_out_of_bounds_are_refused_by_the_api(client, models, setting, words):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match=words) as refused:
        client.predict(models, **setting, api_name="/transfer")
    assert "Traceback" not in str(refused.value)


def test_the_mcp_server_gives_the_same(address, by_command, ranked_by_command):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def ask():
        server = streamablehttp_client(f"{address}/gradio_api/mcp/")
        async with server as (reading, writing, _), ClientSession(reading, writing) as session:
            await session.initialize()
            compare, transfer, _ = (await session.list_tools()).tools
            compared = await session.call_tool(compare.name, {"a": "demo:cnn", "b": "demo:vit"} | SETTINGS)
            ranked = await session.call_tool(transfer.name, {"models": ["demo:cnn", "demo:vit"]} | SETTINGS)
            return compare, transfer, compared, ranked

    compare, transfer, compared, ranked = asyncio.run(ask())
    assert not compared.isError and not ranked.isError
    assert comparable(json.loads(compared.content[0].text)) == comparable(by_command)
    assert without_seconds(json.loads(ranked.content[0].text)) == ranked_by_command
    assert {"a", "b", "images", "k", "protocol"} <= set(compare.inputSchema["properties"])
    assert transfer.inputSchema["properties"]["models"]["items"] == {"type": "string"}
    assert all("description" in argument for argument in transfer.inputSchema["properties"].values())


def test_the_api_has_each_function_as_object_and_as_text(client):
    endpoints = list(client.view_api(return_format="dict")["named_endpoints"])
    assert endpoints == ["/compare", "/compare_json", "/transfer", "/transfer_json", "/nearest", "/nearest_json"]
    text = client.predict("demo:cnn", "demo:vit", **SETTINGS, api_name="/compare_json")
    assert json.loads(text) == client.predict("demo:cnn", "demo:vit", **SETTINGS, api_name="/compare")


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE_NAMES if kind != "lone surrogate"])
def test_hostile_names_are_refused_by_the_api(client, kind):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as refused:
        client.predict(HOSTILE_NAMES[kind], "demo:vit", api_name="/compare")
    text = str(refused.value)
    assert "model" in text and "Traceback" not in text and len(text) < 600


@pytest.mark.parametrize("setting", [{"k": 10**9}, {"k": -5}, {"images": "../x"}, {"protocol": "paper"}])
def test_settings_out_of_bounds_are_refused_by_the_api(client, setting):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match=r"not offered here|not in the list|invalid"):
        client.predict("demo:cnn", "demo:vit", **setting, api_name="/compare")


def test_a_full_queue_is_said_politely_and_the_others_are_served(address):
    from gradio_client.exceptions import AppError

    clients = [client_of(address) for _ in range(4)]

    def ask(number):
        try:
            return clients[number].predict(
                "demo:cnn", "demo:vit", k=64 + number, protocol="standard", api_name="/compare"
            )
        except AppError as error:
            return str(error)

    with ThreadPoolExecutor(4) as visitors:
        answers = list(visitors.map(ask, range(4)))
    served = [answer for answer in answers if isinstance(answer, dict)]
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert len(served) >= 2 and len(refused) >= 1
    assert all("queue is full" in text or "in the queue already" in text for text in refused)


# What the process that computes refuses


PUBLISH = """
import shutil, sys, torch
from pathlib import Path
from huggingface_hub import HfApi
from safetensors.torch import load_file
demo, work = map(Path, sys.argv[1:])
cnn = (demo / "cnn" / "config.json").read_text()
configs = {"pickle": cnn, "fine": cnn, "code": '{"model_type": "x", "auto_map": {"AutoModel": "evil.Model"}}',
           "huge": '{"architecture": "vit_giant_patch14_224", "num_classes": 1000}'}
for name, config in configs.items():
    (work / name).mkdir()
    (work / name / "config.json").write_text(config)
    (work / name / "README.md").write_text("---\\npipeline_tag: image-classification\\n---\\n")
torch.save(load_file(demo / "cnn" / "model.safetensors"), work / "pickle" / "pytorch_model.bin")
shutil.copy(demo / "cnn" / "model.safetensors", work / "fine")
for name in configs:
    HfApi().create_repo(f"acme/{name}")
    HfApi().upload_folder(repo_id=f"acme/{name}", folder_path=work / name)
"""

ASK = """
import json, sys
from hf_infodist.page.request import Comparison, Limits, Refusal
from hf_infodist.page.telling import in_public
from hf_infodist.page.compute import check, compare
def ask(work, name):
    try:
        return "fine" if work(Comparison("demo:vit", name, k=32, protocol="standard")) else ""
    except Refusal as error:
        return [error.field, *in_public(error)]
limits = Limits(parameters=100_000_000)
print(json.dumps({name: [ask(lambda c: check(c, limits), name), ask(lambda c: compare(c, limits, print_nothing), name)]
                  for name in sys.argv[1:]}))
""".replace("print_nothing", "lambda event: None")


def test_a_hub_of_traps(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "hub").mkdir()
    names = ("acme/fine", "acme/pickle", "acme/code", "acme/huge", "acme/finn")
    with serve(tmp_path / "hub") as hub:
        python(hub.environment(tmp_path / "pusher", OWNER), PUBLISH, DEMO, work)
        reader = hub.environment(tmp_path / "reader") | {"INFODIST_HOME": str(tmp_path / "store")}
        answers = json.loads(python(reader, ASK, *names).splitlines()[-1])
        assert not list((tmp_path / "reader").rglob("*.bin"))  # it was not even fetched
        offline = reader | {"HF_HUB_OFFLINE": "1"}
        assert json.loads(python(offline, ASK, "acme/fine").splitlines()[-1]) == {"acme/fine": ["fine", "fine"]}
    assert answers.pop("acme/fine") == ["fine", "fine"]
    reasons = {
        "pickle": "safetensors",
        "code": "code from its repository",
        "huge": "too large",
        "finn": "no public model",
    }
    for name, refusals in answers.items():
        for field, *lines in refusals:
            assert field == "b" and reasons[name.removeprefix("acme/")] in " ".join(lines)
            assert str(tmp_path) not in " ".join(lines)
    assert "acme/fine" in answers["acme/finn"][0][3]


def test_a_process_that_dies_is_said_and_started_anew(tmp_path):
    code = """
import asyncio, sys
from pathlib import Path
from hf_infodist.page.request import Comparison, Limits
from hf_infodist.page.events import Block, Done, Failed, Stage, Stopped
from hf_infodist.page.job_process import JobProcess

async def main():
    worker = JobProcess(Limits(), Path(sys.argv[1]))
    async def do(k, act, **options):
        last = None
        async for last in worker.do("compare", Comparison("demo:cnn", "demo:vit", k=k), **options):
            act(last)
        return last
    end = lambda event: worker._process.kill() if isinstance(event, Block) else None
    assert isinstance(await do(64, end, seconds=600), Failed)
    assert isinstance(await do(64, print, seconds=600), Done)
    assert isinstance(await do(65, print, seconds=0), Stopped)
    assert isinstance(await do(65, print, seconds=600, stopped=lambda: True), Stopped)
    assert isinstance(await do(65, print, seconds=600), Done)
    worker.close()
asyncio.run(main())
"""
    python({"HF_HUB_OFFLINE": "1"}, code, tmp_path)


def test_the_space_is_the_same_page_with_a_bound_on_its_disk():
    code = """
import sys
sys.path.insert(0, "spaces_demo")
import app
print(app.build_demo().service.limits.disk_bytes)
"""
    assert int(python({}, code).split()[-1]) > 0
