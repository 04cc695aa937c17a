"""The page and the metric as Spaces of a Hub, each with a wheel of the package that is running."""

import base64
import csv
import hashlib
import io
import re
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from hf_infodist.errors import InfodistError, NotFoundError, UnfitError, UsageError
from hf_infodist.hub import one_line, refusal, unsendable
from hf_infodist.table import text_table

SCHEMA = "infodist.publication/1"
FOLDERS = {"space": "spaces_demo", "metric": "metrics/infodist"}  # of a clone, by what is published
_PROJECT, _PACKAGE = "hf-infodist", Path(__file__).parent
_INSTALLED = "published"  # folder of the installed package that holds the same: see pyproject.toml
_SCRIPT = "infodist.py"  # of the metric; evaluate looks for one that is named as the Space
_METADATA = ("METADATA", "WHEEL", "entry_points.txt")


@dataclass(frozen=True, eq=False)
class Publication:
    """What a Space is to hold.

    Attributes:
        repo: ``org/name``.
        private: Whether only its owner may read it.
        files: Contents by path.
    """

    repo: str
    private: bool
    files: Mapping[str, bytes]

    @property
    def url(self) -> str:
        """Address of the Space."""
        return _space_url(self.repo)

    @property
    def requirements(self) -> str:
        """What the Hub is to install for it."""
        return self.files["requirements.txt"].decode()

    def to_dict(self) -> dict[str, Any]:
        """Return what would be sent as JSON types, schema ``infodist.publication/1``."""
        files = {path: len(content) for path, content in sorted(self.files.items())}
        return {"schema": SCHEMA, **{name: getattr(self, name) for name in ("repo", "url", "private")}} | {
            "files": files,
            "requirements": self.requirements.splitlines(),
        }

    def __str__(self) -> str:
        kind = "private" if self.private else "public"
        sizes = [(path, f"{size:,}") for path, size in self.to_dict()["files"].items()]
        shown = [row for row in sizes if not row[0].startswith("hf_infodist/")]
        inside = len(sizes) - len(shown)
        more = [f"and {inside} files of the package in hf_infodist/"] if inside else []
        table = text_table(("file", "bytes"), shown)
        return "\n".join(
            [f"{kind} Space {self.url}", table, *more, "", "requirements.txt:", self.requirements.rstrip()]
        )


def prepare(kind: str, repo: str, *, private: bool = False) -> Publication:
    """Put together what a Space is to hold; asks no Hub.

    Where everybody may read the wheel, the requirements lead to it. The Hub installs them before it has the Space's
    files, and without the right to read a private one: there the contents of the wheel lie beside ``app.py``.

    Args:
        kind: ``space`` or ``metric``.
        repo: ``org/name``.
        private: Whether only its owner may read it.

    Raises:
        UsageError: If that is no name of a repository, or a clone has changed since it was installed.
        NotFoundError: If the package that is running is not installed.
    """
    _check_name(repo)
    package = _installed()
    contents, files, link = wheel_contents(package), dict(_walk(_folder(kind))), ""
    if kind == "metric":
        files[_script_of(repo)] = files.pop(_SCRIPT)
    if private:
        files |= contents
    else:
        name, wheel = f"{_stem(package)}-py3-none-any.whl", pack(contents)
        files[name] = wheel
        link = f"{_space_url(repo)}/resolve/main/{name}#sha256={hashlib.sha256(wheel).hexdigest()}"
    lines = _requirements(files["requirements.txt"].decode(), package, link)
    return Publication(repo, private, files | {"requirements.txt": "".join(f"{line}\n" for line in lines).encode()})


def publish(kind: str, repo: str, *, private: bool = False) -> tuple[Publication, str]:
    """Make a Space, or bring it up to date, in one commit; return what was sent, and the address of the commit.

    Args:
        kind: ``space`` or ``metric``.
        repo: ``org/name``; it is made if there is none, and stays as private as it is if there is one.
        private: Whether only its owner may read it, if it is made now.

    Raises:
        UsageError: If nobody is signed in, or the Space holds something else.
        UnfitError: If the Hub refuses the front matter of the card.
        NotFoundError: If the Hub cannot be reached or written.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    publication, version = prepare(kind, repo, private=private), _installed().version
    if get_token() is None:
        raise UsageError(f"{repo} cannot be published", "nobody is signed in", "run: hf auth login")
    api = HfApi(library_name="hf_infodist", library_version=version)
    with _telling(repo):
        _check_card(publication.files["README.md"].decode())
        api.create_repo(repo, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        there = api.space_info(repo)
        old = {file.rfilename for file in there.siblings or ()}
        _check_ours(repo, old)
        if there.private != private:
            publication = prepare(kind, repo, private=not private)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path, content) for path, content in sorted(publication.files.items())),
            *(CommitOperationDelete(path) for path in sorted(old - {*publication.files}) if _ours(path)),
        ]
        commit = api.create_commit(repo, operations, repo_type="space", commit_message=f"{_PROJECT} {version}")
    return publication, str(commit.commit_url)


def wheel_contents(package: Distribution) -> dict[str, bytes]:
    """Return the files of a wheel of the package that is running, with its metadata, but without their list."""
    folder = f"{_stem(package)}.dist-info"
    files = {f"hf_infodist/{path}": content for path, content in _walk(_PACKAGE)}
    for kind in FOLDERS:
        files |= {f"hf_infodist/{_INSTALLED}/{kind}/{path}": content for path, content in _walk(_folder(kind))}
    metadata = [path for path in package.files or () if path.parts[0].endswith(".dist-info")]
    for path in metadata:
        if path.name in _METADATA or path.parts[1] == "licenses":
            files["/".join((folder, *path.parts[1:]))] = Path(str(path.locate())).read_bytes()
    return files


def pack(contents: Mapping[str, bytes]) -> bytes:
    """Return a wheel; the same contents give the same bytes, whenever they are packed."""
    (info,) = {path.partition("/")[0] for path in contents if ".dist-info/" in path}
    record, rows = f"{info}/RECORD", io.StringIO()
    write = csv.writer(rows, lineterminator="\n").writerow
    for path, content in sorted(contents.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        write((path, f"sha256={digest}", len(content)))
    write((record, "", ""))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in [*sorted(contents.items()), (record, rows.getvalue().encode())]:
            entry = zipfile.ZipInfo(path)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return packed.getvalue()


def _installed() -> Distribution:
    """Return the metadata of the package that is running."""
    fix = "type pip install . in a clone, or pip install -e . to go on working on it"
    try:
        package = distribution(_PROJECT)
    except PackageNotFoundError:
        raise NotFoundError(f"there is no package {_PROJECT}", "it runs without having been installed", fix) from None
    project = _PACKAGE.parent / "pyproject.toml"
    if project.exists() and not (_PACKAGE / _INSTALLED).exists():
        declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        missing = {*map(Requirement, declared["dependencies"])} - {*map(Requirement, package.requires or ())}
        if missing or declared["version"] != package.version:
            why = f"what is installed does not know {', '.join(sorted(map(str, missing))) or declared['version']}"
            raise UsageError(f"{project} has changed since this package was installed", why, "type pip install -e .")
    return package


def _requirements(text: str, package: Distribution, link: str) -> Iterator[str]:
    """Yield the lines of a requirements.txt, with a link to the wheel, or what the wheel needs, for the package."""
    for line in text.splitlines():
        wanted = Requirement(line)
        if wanted.name != _PROJECT:
            yield line
        elif link:
            yield f"{line} @ {link}"
        else:
            extras = [{"extra": extra} for extra in ("", *sorted(wanted.extras))]
            for needed in map(Requirement, package.requires or ()):
                if needed.marker is None or any(map(needed.marker.evaluate, extras)):
                    needed.marker = None
                    yield str(needed)


def _folder(kind: str) -> Path:
    installed = _PACKAGE / _INSTALLED / kind
    return installed if installed.exists() else _PACKAGE.parent / FOLDERS[kind]


def _walk(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of all files below a folder but for caches and hidden ones."""
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in inner.parts):
            yield inner.as_posix(), path.read_bytes()


def _stem(package: Distribution) -> str:
    return f"{_PROJECT.replace('-', '_')}-{package.version}"


def _space_url(repo: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/spaces/{repo}"


def _check_name(repo: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
        named = re.fullmatch("[^/]+/[^/]+", repo)
    except HFValidationError:
        named = None
    if not named:
        why, fix = "a Space is named by its owner and a name of its own", "use owner/name, such as acme/infodist"
        raise UsageError(f"{repo!r} is no name of a Space", why, fix)


def _script_of(repo: str) -> str:
    """Return the name of the script that evaluate looks for in a Space."""
    name = repo.partition("/")[2]
    if name in ("app", "hf_infodist"):
        what, why = f"a metric cannot be called {repo}", f"its script {name}.py would hide another of that name"
        raise UsageError(what, why, f"use another name, such as {repo}-metric")
    return f"{name}.py"


def _ours(path: str) -> bool:
    """Tell whether a file came with an earlier wheel."""
    return path.startswith(("hf_infodist/", "hf_infodist-"))


def _check_ours(repo: str, there: set[str]) -> None:
    if "app.py" in there and not any(map(_ours, there)):
        what, why = f"{repo} holds something else", "it has an app.py, but no hf_infodist"
        raise UsageError(what, why, "name another Space, or delete that one first")


def _check_card(text: str) -> None:
    """Ask the Hub whether it takes the front matter of a card, before anything is sent."""
    from huggingface_hub import SpaceCard

    try:
        SpaceCard(text).validate()
    except ValueError as error:
        what, fix = "the Hub refuses the front matter of README.md", "correct it there, and publish again"
        raise UnfitError(what, one_line(error), fix) from error


@contextmanager
def _telling(repo: str) -> Iterator[None]:
    """Raise what a Hub refuses as an error of ours."""
    try:
        yield
    except InfodistError:
        raise
    except Exception as error:
        if told := unsendable(repo, error) or refusal("space", repo, None, error):
            raise told from error
        raise
