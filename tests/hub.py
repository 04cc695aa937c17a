"""A stand-in for the Hub on a loopback port: its ordinary clients push to it and load from it.

    with serve(folder) as hub:
        subprocess.run(command, env=os.environ | hub.environment(home, token=OWNER))

Repositories live as long as the server: commits in memory, contents in a folder. What the Hub keeps from whom is kept
as there: without a token a private repository looks like a missing one (401), with one that may not read it too (404);
of a gated one everybody sees the list of files and only its owner their contents. Any signed-in user may open a pull
request, only the owner writes. `python tests/hub.py FOLDER` serves until interrupted.
"""

import base64
import hashlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from front_matter import front_matter, wrong_in_space

OWNER, GUEST = "hf_owner", "hf_guest"  # tokens
USERS = {OWNER: "acme", GUEST: "guest"}
LFS = (".safetensors", ".bin", ".parquet", ".png", ".jpg", ".whl")
BORN = "2026-01-01T00:00:00.000Z"


class Refusal(Exception):
    """An answer that the clients turn into an exception of their own."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code = status, code

    def response(self) -> Response:
        headers = {"X-Error-Code": self.code, "X-Error-Message": str(self)}
        return JSONResponse({"error": str(self)}, self.status, headers={k: v for k, v in headers.items() if v})


@dataclass(frozen=True)
class File:
    """Contents on disk under their sha256, and whether they were sent as a large file."""

    content: Path
    lfs: bool

    @property
    def git_oid(self) -> str:
        data = self.content.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return f'"{self.content.name if self.lfs else self.git_oid}"'

    def entry(self, path: str) -> dict[str, Any]:
        size = self.content.stat().st_size
        lfs = {"lfs": {"oid": self.content.name, "size": size, "pointerSize": 134}} if self.lfs else {}
        return {"type": "file", "path": path, "size": size, "oid": self.git_oid, **lfs}


Files = dict[str, File]


@dataclass
class Repository:
    """Commits and what points to them."""

    kind: str  # models, datasets or spaces
    id: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)  # branch, tag or refs/pr/N → commit

    def commit(self, files: Files, ref: str = "main") -> str:
        """Point a branch at new files; a commit is named by what it holds and what came before."""
        text = json.dumps([self.id, self.refs.get(ref), {path: file.content.name for path, file in files.items()}])
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid], self.refs[ref] = files, oid
        return oid

    def resolve(self, revision: str) -> str:
        known = [oid for oid in self.commits if len(revision) >= 7 and oid.startswith(revision)]
        if not (oid := self.refs.get(revision) or next(iter(known), None)):
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid

    def split(self, rest: str) -> tuple[str, str]:
        """Part ``revision/path`` into a commit and a path."""
        revision, _, path = rest.partition("/")
        return self.resolve(revision), path.strip("/")

    def files(self, revision: str = "main") -> Files:
        return self.commits[self.resolve(revision)]

    def text(self, path: str, revision: str = "main") -> str:
        return self.files(revision)[path].content.read_text(encoding="utf-8")

    def info(self, revision: str = "main") -> dict[str, Any]:
        oid = self.resolve(revision)
        card = self._metadata(oid)
        siblings = [{"rfilename": path} for path in sorted(self.commits[oid])]
        facts = {"private": self.private, "gated": "auto" if self.gated else False, "disabled": False, "likes": 0}
        names = {name: card[name] for name in ("pipeline_tag", "library_name", "sdk") if name in card}
        times = {"lastModified": BORN, "createdAt": BORN}
        tags = [*card.get("tags", []), *names.values()]
        commit = {"id": self.id, "sha": oid, "siblings": siblings, "cardData": card, "tags": tags}
        return commit | facts | names | times

    def _metadata(self, oid: str) -> dict[str, Any]:
        return front_matter(self.text("README.md", oid)) if "README.md" in self.commits[oid] else {}


class Hub:
    """All repositories, by kind and id, and a log of requests."""

    def __init__(self, folder: Path, url: str):
        self.folder, self.url = folder, url
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.log: list[str] = []

    def __getitem__(self, id: str) -> Repository:
        """Return a model by ``org/name``, a dataset or Space with its kind before that."""
        kind, _, rest = id.partition("/")
        return self.repositories[(kind, rest) if kind in ("datasets", "spaces") else ("models", id)]

    def environment(self, home: Path, token: str = "") -> dict[str, str]:
        """Return the environment in which clients talk to this hub, with their caches in ``home``."""
        online = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"), "0")
        quiet = {"HF_UPDATE_DOWNLOAD_COUNTS": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_TOKEN": token} | online | quiet

    def put(self, kind: str, id: str, contents: dict[str, bytes]) -> Repository:
        """Make a repository without a client."""
        repository = self.repositories[kind, id] = Repository(kind, id)
        repository.commit({path: File(self.keep(data), lfs=path.endswith(LFS)) for path, data in contents.items()})
        return repository

    def keep(self, data: bytes) -> Path:
        path = self.folder / hashlib.sha256(data).hexdigest()
        path.write_bytes(data)
        return path

    def user(self, request: Request) -> str | None:
        """Return who asks; an unknown token is an error even where none is needed."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in USERS:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        return USERS.get(token)

    def find(self, request: Request, kind: str, id: str, *, contents: bool = False) -> Repository:
        user, repository = self.user(request), self.repositories.get((kind, id))
        if repository is None or (repository.private and user != id.partition("/")[0]):
            if user is None:
                raise Refusal(401, "", "Invalid username or password.")
            raise Refusal(404, "RepoNotFound", "Repository not found")
        if contents and repository.gated and user != id.partition("/")[0]:
            raise Refusal(403 if user else 401, "GatedRepo", f"Access to {id} is restricted.")
        return repository

    def write(self, request: Request, id: str) -> None:
        if self.user(request) != id.partition("/")[0]:
            raise Refusal(403, "", "You do not have permission to write to this repository")


def application(hub: Hub) -> FastAPI:
    """Return the server of a hub."""
    app = FastAPI()
    _errors(app, hub)
    _reading(app, hub)
    _writing(app, hub)
    return app


def _errors(app: FastAPI, hub: Hub) -> None:
    @app.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> Response:
        return refusal.response()

    @app.middleware("http")
    async def log(request: Request, answer: Any) -> Response:
        response = await answer(request)
        hub.log.append(f"{request.method} {request.url.path} {response.status_code}")
        return response


def _reading(app: FastAPI, hub: Hub) -> None:
    @app.get("/api/{kind}")
    async def listing(kind: str, request: Request) -> list[dict]:
        asked = request.query_params
        readable = (r for (k, _), r in hub.repositories.items() if k == kind and not r.private)
        infos = [r.info() for r in readable if asked.get("search", "") in r.id]
        infos = [info for info in infos if set(asked.getlist("filter")) <= set(info["tags"])]
        return [info for info in infos if info["id"].startswith(f"{asked.get('author', '')}")]

    @app.get("/api/{kind}/{org}/{name}")
    async def latest(kind: str, org: str, name: str, request: Request) -> dict:
        return hub.find(request, kind, f"{org}/{name}").info()

    @app.get("/api/{kind}/{org}/{name}/revision/{revision:path}")
    async def info(kind: str, org: str, name: str, revision: str, request: Request) -> dict:
        return hub.find(request, kind, f"{org}/{name}").info(revision)

    @app.get("/api/{kind}/{org}/{name}/tree/{rest:path}")
    async def tree(kind: str, org: str, name: str, rest: str, request: Request) -> list[dict]:
        repository = hub.find(request, kind, f"{org}/{name}")
        commit, folder = repository.split(rest)
        entries = _below(repository.commits[commit], folder)
        if request.query_params.get("recursive", "").lower() not in ("1", "true"):
            entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(folder).strip("/")]
        if folder and not entries:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist")
        return entries

    @app.api_route("/{kind}/{org}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
    async def contents(kind: str, org: str, name: str, rest: str, request: Request) -> Response:
        repository = hub.find(request, kind, f"{org}/{name}", contents=True)
        commit, path = repository.split(rest)
        if not (file := repository.commits[commit].get(path)):
            raise Refusal(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": file.etag}
        if file.lfs:
            headers |= {"X-Linked-Etag": file.etag, "X-Linked-Size": str(file.content.stat().st_size)}
        return FileResponse(file.content, headers=headers)

    @app.api_route("/{org}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
    async def model_contents(org: str, name: str, rest: str, request: Request) -> Response:
        return await contents("models", org, name, rest, request)


def _below(files: Files, folder: str) -> list[dict[str, Any]]:
    """List the files below a folder, and the folders on the way to them."""
    inside = {path: file for path, file in files.items() if path.startswith(f"{folder}/" if folder else "")}
    folders = {str(parent) for path in inside for parent in list(Path(path).parents)[:-1]} - {folder}
    shown = [name for name in folders if name.startswith(f"{folder}/" if folder else "")]
    oids = {name: hashlib.sha1(name.encode()).hexdigest() for name in sorted(shown)}
    directories = [{"type": "directory", "path": name, "size": 0, "oid": oid} for name, oid in oids.items()]
    return directories + [file.entry(path) for path, file in sorted(inside.items())]


def _writing(app: FastAPI, hub: Hub) -> None:
    @app.post("/api/repos/create")
    async def create(request: Request) -> Response:
        wish = await request.json()
        kind, id = f"{wish.get('type') or 'model'}s", f"{wish.get('organization') or hub.user(request)}/{wish['name']}"
        hub.write(request, id)
        answer = {"url": f"{hub.url}/{'' if kind == 'models' else kind + '/'}{id}", "name": id}
        if (kind, id) in hub.repositories:
            return JSONResponse(answer, 409)
        repository = hub.repositories[kind, id] = Repository(
            kind, id, wish.get("private") or wish.get("visibility") == "private"
        )
        repository.commit({})
        return JSONResponse(answer)

    @app.post("/api/validate-yaml")
    async def validate(request: Request) -> Response:
        asked = await request.json()
        wrong = wrong_in_space(front_matter(asked["content"])) if asked["repoType"] == "space" else []
        return JSONResponse({"errors": [{"message": each} for each in wrong], "warnings": []}, 400 if wrong else 200)

    @app.post("/api/{kind}/{org}/{name}/preupload/{revision:path}")
    async def preupload(kind: str, org: str, name: str, revision: str, request: Request) -> dict:
        there = hub.find(request, kind, f"{org}/{name}").files(revision)
        asked = (await request.json())["files"]
        modes = {file["path"]: "lfs" if file["path"].endswith(LFS) else "regular" for file in asked}
        oids = {path: file.content.name if file.lfs else file.git_oid for path, file in there.items()}
        files = [{"path": p, "uploadMode": m, "shouldIgnore": False, "oid": oids.get(p)} for p, m in modes.items()]
        return {"files": files}

    @app.post("/{repository:path}.git/info/lfs/objects/batch")
    async def batch(request: Request) -> Response:
        objects = (await request.json())["objects"]
        for wanted in objects:
            if not (hub.folder / wanted["oid"]).exists():
                wanted["actions"] = {"upload": {"href": f"{hub.url}/lfs/{wanted['oid']}", "header": {}}}
        answer = {"transfer": "basic", "objects": objects}
        return JSONResponse(answer, media_type="application/vnd.git-lfs+json")

    @app.put("/lfs/{oid}")
    async def upload(oid: str, request: Request) -> dict:
        if hub.keep(await request.body()).name != oid:
            raise Refusal(400, "", "The upload is damaged")
        return {}

    @app.post("/api/{kind}/{org}/{name}/commit/{ref:path}")
    async def commit(kind: str, org: str, name: str, ref: str, request: Request) -> dict:
        repository = hub.find(request, kind, f"{org}/{name}")
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        base = next((line["value"].get("parentCommit") for line in lines if line["key"] == "header"), None)
        files, url = dict(repository.files(base or ref)), None
        if request.query_params.get("create_pr") == "1" and hub.user(request):
            number = 1 + sum(ref.startswith("refs/pr/") for ref in repository.refs)
            ref, url = f"refs/pr/{number}", f"{hub.url}/{org}/{name}/discussions/{number}"
        else:
            hub.write(request, repository.id)
        for line in lines:
            _apply(hub, files, line["key"], line["value"])
        oid = repository.commit(files, ref)
        page = f"{hub.url}/{'' if kind == 'models' else f'{kind}/'}{org}/{name}"
        return {"commitOid": oid, "commitUrl": f"{page}/commit/{oid}", "pullRequestUrl": url}

    @app.post("/api/{kind}/{org}/{name}/tag/{revision:path}")
    async def tag(kind: str, org: str, name: str, revision: str, request: Request) -> dict:
        repository = hub.find(request, kind, f"{org}/{name}")
        hub.write(request, repository.id)
        repository.refs[(await request.json())["tag"]] = repository.resolve(revision)
        return {}


def _apply(hub: Hub, files: Files, key: str, value: dict[str, Any]) -> None:
    """Apply one line of a commit."""
    if key == "file":
        files[value["path"]] = File(hub.keep(base64.b64decode(value["content"])), lfs=False)
    elif key == "lfsFile":
        files[value["path"]] = File(hub.folder / value["oid"], lfs=True)
    elif key == "deletedFile":
        del files[value["path"]]


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    """Serve an empty hub on a free port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    hub = Hub(folder, f"http://127.0.0.1:{listener.getsockname()[1]}")
    server = uvicorn.Server(uvicorn.Config(application(hub), log_level="critical", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield hub
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


if __name__ == "__main__":
    with serve(Path(sys.argv[1])) as served:
        print(" ".join(f"{k}={v}" for k, v in served.environment(Path(sys.argv[1]) / "home", OWNER).items()))  # noqa: T201
        threading.Event().wait()
