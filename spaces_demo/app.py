"""The Space: the page of `infodist show`, with the limits of a public machine."""

import os
from pathlib import Path

from hf_infodist.home import infodist_home
from hf_infodist.page import app
from hf_infodist.page.request import Limits

LIMITS = Limits(public=True, disk_bytes=20_000_000_000)
HERE = Path(__file__).parent


def build_demo() -> app.Demo:
    """Build the page on this machine's store."""
    return app.build_demo(infodist_home(), LIMITS)


if __name__ == "__main__":
    if (HERE / "hf_infodist").is_dir():  # in a private Space; the process that computes works in another folder
        os.environ["PYTHONPATH"] = str(HERE.absolute())
    app.serve(build_demo())
