"""Every test runs offline, in a store of its own."""

import os

import pytest
from hypothesis import settings
from show_browser import browser, visit  # noqa: F401  fixtures

for name in ("HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ.setdefault(name, "1")  # before any library reads it
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks lose more by sharing their work than they gain

settings.register_profile("the same each time", derandomize=True, database=None, deadline=None)
settings.load_profile("the same each time")


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """Keep results, caches and their side effects out of the user's folders."""
    monkeypatch.setenv("INFODIST_HOME", str(tmp_path / "store"))
    return tmp_path / "store"
