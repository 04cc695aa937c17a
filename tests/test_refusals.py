"""Each refusal of the Hub has an error of its own. `test_hub.py` provokes the same ones through the clients."""

import huggingface_hub
import pytest
from huggingface_hub import errors
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from hf_infodist import hub as refusals
from hf_infodist.hub import missing, refusal, unreachable


class Answer:
    """What the Hub answers."""

    request = None

    def __init__(self, status, code=None, message=""):
        self.status_code = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


@pytest.fixture
def hub(monkeypatch):
    """A hub that can be searched, and a user who is signed in or not."""

    def sign(token, found=("acme/resnet", "others/vit")):
        infos = [huggingface_hub.ModelInfo(id=id) for id in found]
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
        monkeypatch.setattr(huggingface_hub.HfApi, "list_models", lambda self, **search: infos)

    return sign


def told(error, kind="model", repo="acme/resnett", revision="v9"):
    refused = refusal(kind, repo, revision, error)
    lines = [refused.what, refused.why, refused.fix]
    assert str(refused).splitlines() == lines and all(line.strip() for line in lines)
    return str(refused)


REPOSITORY = RepositoryNotFoundError("no", response=Answer(401))  # what https makes of 401
PLAIN = HfHubHTTPError("no", response=Answer(401))  # what http makes of it


@pytest.mark.parametrize(
    ("error", "token", "texts"),
    [
        (REPOSITORY, None, ["no public model", "private, or its name is wrong", "acme/resnet?", "hf auth login"]),
        (PLAIN, None, ["no public model", "private, or its name is wrong", "acme/resnet?", "hf auth login"]),
        (PLAIN, "hf_expired", ["refused model", "does not accept your token", "hf auth login"]),
        (RepositoryNotFoundError("no", response=Answer(404, "RepoNotFound")), "hf_x", ["no model", "acme/resnet?"]),
        (
            errors.GatedRepoError("no", response=Answer(401, "GatedRepo")),
            None,
            ["is gated", "then run: hf auth login"],
        ),
        (errors.GatedRepoError("no", response=Answer(403, "GatedRepo")), "hf_x", ["is gated", "not let you in yet"]),
        (errors.RevisionNotFoundError("no", response=Answer(404, "RevisionNotFound")), None, ["no revision 'v9'"]),
        (HfHubHTTPError("no", response=Answer(429, None, "Too many")), None, ["refused", "answered 429 Too many"]),
        (HfHubHTTPError("no", response=Answer(403)), "hf_x", ["refused", "answered 403", "use a token that may"]),
        (ConnectionRefusedError("no"), None, ["cannot be fetched now", "ConnectionRefusedError", "not mean a typo"]),
        (TimeoutError("slow"), None, ["cannot be fetched now", "TimeoutError: slow"]),
    ],
)
def test_each_refusal_has_its_own_words(hub, error, token, texts):
    hub(token)
    message = told(error)
    assert all(text in message for text in texts), message
    assert ("did you mean" in message) == ("acme/resnet?" in texts)


def test_a_refusal_is_found_below_the_errors_of_other_libraries(hub):
    hub(None)
    try:
        try:
            raise errors.GatedRepoError("no", response=Answer(401, "GatedRepo"))
        except errors.GatedRepoError:
            raise ValueError("something else")  # noqa: B904
    except ValueError as error:
        assert "is gated" in told(error, "dataset")


@pytest.mark.parametrize(
    "error", [ValueError("a broken file"), errors.EntryNotFoundError("no"), KeyError("x"), FileNotFoundError("x")]
)
def test_what_the_hub_did_not_say_is_not_put_into_its_mouth(error):
    assert refusal("model", "acme/resnet", None, error) is None


def test_a_file_that_is_missing_is_no_missing_repository():
    absent = errors.RemoteEntryNotFoundError("no", response=Answer(404, "EntryNotFound"))
    assert "cannot be fetched" in str(refusal("model", "acme/resnet", None, absent))


def test_nothing_is_suggested_where_nothing_is_near(hub):
    for token, said in ((None, "check the name. If it is private"), ("hf_x", "whose token you use")):
        hub(token, ["acme/resnet"])
        assert said in missing("model", "other/thing").fix
        assert said in missing("model", "acme/resnet").fix  # not itself


def test_a_hub_that_cannot_be_searched_hides_nothing(hub, monkeypatch):
    hub(None)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_models", lambda self, **search: 1 / 0)
    assert refusals.nearest("model", "acme/resnett") == []


def test_being_offline_by_choice_is_told_from_a_hub_that_is_away(hub, monkeypatch):
    hub(None)
    assert "cannot be reached" in unreachable("acme/resnet", "the Hub").why
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in unreachable("acme/resnet", "the Hub").why
