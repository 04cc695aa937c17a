"""What the Hub's refusals mean, in three lines: private, gated, missing, a bad token, or out of reach."""

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from hf_infodist.errors import NotFoundError

_ADDRESS = re.compile(r"(?:hf[-_]hub:|hf://|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)", re.IGNORECASE)
_PAGE = re.compile(r"(?P<repo>[^/@]+/[^/@]+)(?:/(?:tree|blob|resolve)/(?P<revision>refs/[^/]+/[^/]+|[^/]+))?(?:/.*)?")


def plain_name(name: str) -> str:
    """Return ``org/name[@revision]`` for what people copy from a browser or from other libraries; all else as it is.

    An address of the Hub, of its stand-in (``HF_ENDPOINT``) or of a page of a repository (``/tree/REVISION``);
    ``hf-hub:`` of timm, ``hf://`` of fsspec; spaces around a name, slashes at its end.
    """
    from huggingface_hub import constants

    bare = name.strip()
    rest = _ADDRESS.sub("", bare.removeprefix(f"{constants.ENDPOINT}/"), count=1)
    if rest == bare:
        slashes = re.fullmatch(r"\w[\w.-]*/[\w.-]+/+", bare) and not os.path.isdir(bare)
        return bare.rstrip("/") if slashes else bare
    rest = re.sub(r"^(datasets|models)/", "", re.split(r"[?#]", rest)[0])
    if "@" not in rest and (found := _PAGE.fullmatch(rest)):
        return found["repo"] + (f"@{unquote(found['revision'])}" if found["revision"] else "")
    return unquote(rest).rstrip("/")


def refusal(kind: str, repo: str, revision: str | None, error: BaseException) -> NotFoundError | None:
    """Return what to tell somebody who asked the Hub for a repository and got an error.

    Args:
        kind: ``model``, ``dataset`` or ``space``.
        repo: ``org/name``.
        revision: Branch, tag or commit, if one was asked for.
        error: What a client of the Hub has raised.

    Returns:
        None if the error did not come from the Hub, nor from the way there.
    """
    if (response := _answer(error)) is not None:
        return _refused(kind, repo, revision, response)
    return unreachable(repo, "the Hub", error) if any(map(_is_network, _chain(error))) else None


@contextmanager
def refusing(kind: str, repo: str, revision: str | None = None) -> Iterator[None]:
    """Turn what the Hub refuses into three lines; other errors stay what they are. Arguments as in `refusal`.

    Raises:
        NotFoundError: If the Hub refuses.
    """
    try:
        yield
    except Exception as error:
        refused = refusal(kind, repo, revision, error)
        if refused is None:
            raise
        raise refused from error


def missing(kind: str, repo: str) -> NotFoundError:
    """Say that the Hub has no such repository, and which names are near."""
    if _signed_in():
        why, otherwise = "none that your token may read has this name", "check the name, and whose token you use"
    else:
        why = "it is private, or its name is wrong: without a token the Hub says the same of both"
        otherwise = "check the name"
    near = nearest(kind, repo)
    fix = f"did you mean {' or '.join(near)}?" if near else f"{otherwise}."
    if not _signed_in():
        fix += " If it is private, run: hf auth login"
    public = "" if _signed_in() else "public "
    return NotFoundError(f"there is no {public}{kind} {repo!r} on the Hub", why, fix)


def gated(kind: str, repo: str) -> NotFoundError:
    """Say that an agreement is missing, and where it is made."""
    why = "its owner has not let you in yet" if _signed_in() else "its owner lets in only those who accept terms"
    fix = f"accept its terms on {_page(kind, repo)}{'' if _signed_in() else ', then run: hf auth login'}"
    return NotFoundError(f"{kind} {repo!r} is gated", why, fix)


def unreachable(name: str, place: str, error: BaseException | None = None) -> NotFoundError:
    """Say that a name may be right, but cannot be reached now."""
    from huggingface_hub import constants

    what, local = f"{name!r} cannot be fetched now", "use what is cached or local, such as demo:cnn and digits"
    if constants.HF_HUB_OFFLINE:
        return NotFoundError(what, "HF_HUB_OFFLINE is set, and the cache does not have it", f"unset it, or {local}")
    why = f"{place} cannot be reached{_reason(error)}, and the cache does not have it; this does not mean a typo"
    return NotFoundError(what, why, f"check the connection and try again, or {local}")


def unsendable(repo: str, error: BaseException) -> NotFoundError | None:
    """Say that nothing can be sent to a repository now; None if the error does not come from the way there."""
    from huggingface_hub import constants

    what = f"nothing can be sent to {repo!r} now"
    if constants.HF_HUB_OFFLINE:
        return NotFoundError(what, "HF_HUB_OFFLINE is set", "unset it, and type the same again")
    if _answer(error) is not None or not (reason := _reason(error)):
        return None
    return NotFoundError(what, f"the Hub cannot be reached{reason}", "check the connection, and type the same again")


def one_line(error: BaseException) -> str:
    """Return the kind and the text of an error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def nearest(kind: str, repo: str) -> list[str]:
    """Return up to three other repositories of the Hub with names like this one; none if it cannot be asked."""
    from huggingface_hub import HfApi

    owner, _, name = repo.rpartition("/")
    searches: list[dict[str, Any]] = [{"search": name}, {"search": re.split(r"[-_.]", name)[0]}]
    searches += [{"author": owner}] if owner else []
    if kind == "model":
        searches = [search | {"filter": "image-classification"} for search in searches]
    api = HfApi()
    ask: Any = {"model": api.list_models, "dataset": api.list_datasets, "space": api.list_spaces}[kind]
    try:
        ids = {info.id for search in searches for info in ask(**search, limit=100)}
    except Exception:  # a suggestion must not hide the error that it belongs to
        return []
    names = {id if owner else id.rpartition("/")[2]: id for id in sorted(ids - {repo})}
    return [names[near] for near in difflib.get_close_matches(repo, names, n=3)]


def _refused(kind: str, repo: str, revision: str | None, response: Any) -> NotFoundError:
    """Tell what an answer of the Hub means."""
    status, code = response.status_code, response.headers.get("X-Error-Code")
    if code == "GatedRepo":
        return gated(kind, repo)
    if code == "RevisionNotFound":
        why = "that is no branch, tag or commit of the repository"
        return NotFoundError(f"{kind} {repo!r} has no revision {revision!r}", why, f"use {repo} for its main branch")
    if status == 401 and _signed_in():
        fix = "run: hf auth login, or unset HF_TOKEN where that is what it comes from"
        return NotFoundError(f"the Hub refused {kind} {repo!r}", "it does not accept your token", fix)
    if status in (401, 404):
        return missing(kind, repo)
    why = f"it answered {status} {response.headers.get('X-Error-Message', '')}".strip()
    late, forbidden = "try again later, or use what is cached or local", "use a token that may do this: hf auth login"
    return NotFoundError(f"the Hub refused {kind} {repo!r}", why, forbidden if status == 403 else late)


def _chain(error: BaseException | None, *, context: bool = False) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on; also what it was raised in the handling of, if asked."""
    while error is not None:
        yield error
        error = error.__cause__ or (error.__context__ if context else None)


def _answer(error: BaseException) -> Any:
    """Return the answer of the Hub that an error came from, but for one that says that a file is missing."""
    for part in _chain(error, context=True):  # datasets keeps the answer there, where it raises in its own words
        response = getattr(part, "response", None)
        if response is not None and response.headers.get("X-Error-Code") != "EntryNotFound":
            return response
    return None


def _reason(error: BaseException | None) -> str:
    """Return what is wrong with the way to the Hub, in brackets; nothing if it is not known."""
    reasons = [part for part in _chain(error, context=True) if _is_network(part)]
    return f" ({one_line(reasons[-1])})" if reasons else ""


def _is_network(error: BaseException) -> bool:
    from huggingface_hub.errors import HTTPError

    return isinstance(error, ConnectionError | HTTPError | TimeoutError)


def _signed_in() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _page(kind: str, repo: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'' if kind == 'model' else f'{kind}s/'}{repo}"
