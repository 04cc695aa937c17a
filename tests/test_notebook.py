"""The notebook shows what it says: executed again it has the same outputs, and it renders."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbconvert import HTMLExporter

NOTEBOOK = Path(__file__).parents[1] / "metrics" / "example.ipynb"
FIGURE = '<img alt="" src="data:image/png;base64,'


def outputs(notebook):
    """Per cell, texts and kinds of what it shows; progress goes to streams and is left out."""
    return [
        [(sorted(one.data), one.data["text/plain"]) for one in cell.get("outputs", ()) if "data" in one]
        for cell in notebook.cells
    ]


def apart(found):
    """Words and numbers of outputs."""
    text = repr(found)
    return re.split(r"\d[\d.,e-]*", text), [float(one) for one in re.findall(r"\d+(?:\.\d+)?", text)]


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:::zmq", "ignore:::nbclient", "ignore::DeprecationWarning", "ignore::ResourceWarning"
)
def test_executed_again_it_shows_the_same(tmp_path):
    committed = nbformat.read(NOTEBOOK, as_version=4)
    again = nbformat.from_dict(committed)
    (tmp_path / "infodist").symlink_to(NOTEBOOK.parent / "infodist")
    nbclient.NotebookClient(again, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (words, shown), (same_words, measured) = apart(outputs(committed)), apart(outputs(again))
    assert words == same_words and shown == pytest.approx(measured, rel=0.05, abs=2e-3)
    progress = [one.text for cell in again.cells for one in cell.get("outputs", ()) if one.get("name") == "stderr"]
    assert any("coding" in text and "100%" in text for text in progress)
    assert (tmp_path / "matrix.csv").read_text().startswith("teacher,student,nats,stderr_nats")


def test_it_renders_with_its_pictures():
    page, _ = HTMLExporter().from_filename(str(NOTEBOOK))
    assert page.count(FIGURE) == 5 and "bits per image" in page and "Traceback" not in page
