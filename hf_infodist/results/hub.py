"""Results to and from a dataset repository of the Hub."""

from pathlib import Path

from hf_infodist.errors import UsageError
from hf_infodist.hub import refusing
from hf_infodist.results.store import Merged, Store, read_record

FOLDER = "codelengths"  # of the repository


def pull(store: Store, repo: str) -> Merged:
    """Take over the results of a repository; what the store has already stays as it is.

    Args:
        store: Where to.
        repo: ``org/name`` of a dataset.

    Raises:
        NotFoundError: If it does not exist, or cannot be reached or read.
    """
    return store.merge(_download(repo))


def push(store: Store, repo: str, *, private: bool = False) -> Merged:
    """Add results to a repository in one commit; what it has already stays as it is.

    Args:
        store: Where from.
        repo: ``org/name`` of a dataset; it is made if there is none.
        private: Whether only its owner may read it, if it is made now.

    Raises:
        UsageError: If nobody is signed in.
        NotFoundError: If it cannot be reached or written.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        what, why = f"results cannot be pushed to {repo}", "nobody is signed in"
        raise UsageError(what, why, "run: hf auth login")
    api = HfApi()
    with refusing("dataset", repo):
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
    merged = _compare(store, Store(_download(repo)))
    if merged.new:
        files = [CommitOperationAdd(f"{FOLDER}/{key}.json", store.folder / f"{key}.json") for key in merged.new]
        with refusing("dataset", repo):
            message = f"Add {len(files)} codelengths"
            api.create_commit(repo, files, repo_type="dataset", commit_message=message)
    return merged


def _compare(store: Store, there: Store) -> Merged:
    """Tell what another store lacks, has, or has otherwise."""
    new: list[str] = []
    same: list[str] = []
    conflicts: list[str] = []
    unreadable: list[str] = []
    for record in store.records():
        try:
            kept = read_record(there.folder / f"{record.key}.json")
        except FileNotFoundError:
            new.append(record.key)
        except ValueError:
            unreadable.append(f"{record.key}.json")
        else:
            (same if kept.same_number(record) else conflicts).append(record.key)
    return Merged(tuple(new), tuple(same), tuple(conflicts), tuple(unreadable))


def _download(repo: str) -> Path:
    from huggingface_hub import snapshot_download

    with refusing("dataset", repo):
        folder = Path(snapshot_download(repo, repo_type="dataset", allow_patterns=f"{FOLDER}/*.json")) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)  # of a repository without results
    return folder
