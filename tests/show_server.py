"""Serves the page for tests in a process of its own: `python tests/show_server.py STORE PORT [SETTING=NUMBER …]`."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def serving(store: Path, port: int, cwd: Path | None = None, **limits: int) -> Iterator[str]:
    """Serve the page from a folder; yield its address."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    settings = [f"{name}={int(number)}" for name, number in limits.items()]
    words = [sys.executable, __file__, str(store), str(port), *settings]
    env = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    server = subprocess.Popen(words, env=env, cwd=cwd, stdout=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str, server: subprocess.Popen, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10):
            return
        time.sleep(0.2)  # between attempts, not instead of a condition
    raise RuntimeError(f"the page did not come up (exit code {server.poll()})")


if __name__ == "__main__":
    from hf_infodist.page.app import build_demo, serve
    from hf_infodist.page.request import Limits

    store, port, *settings = sys.argv[1:]
    limits: dict = {name: int(number) for name, number in (setting.split("=") for setting in settings)}
    serve(build_demo(Path(store), Limits(**limits)), server_name="127.0.0.1", server_port=int(port), quiet=True)
