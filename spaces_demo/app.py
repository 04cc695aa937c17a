"""The Space: the page of `infodist show`, with the limits of a public machine."""

from hf_infodist.home import infodist_home
from hf_infodist.page import app
from hf_infodist.page.request import Limits

LIMITS = Limits(public=True, disk_bytes=20_000_000_000)


def build_demo() -> app.Demo:
    """Build the page on this machine's store."""
    return app.build_demo(infodist_home(), LIMITS)


if __name__ == "__main__":
    app.serve(build_demo())
