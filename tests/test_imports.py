"""The order of the house: who imports whom, what loads torch, and which names are public."""

import ast
import json
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import hf_infodist
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.home import Home
from hf_infodist.pair import Execution
from hf_infodist.results.store import Store

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hf_infodist"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imported(module):
    """Modules of the package that a module imports, wherever in it and for whatever reason."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & MODULES.keys() or {node.module}
    return (found & MODULES.keys()) - {module}


def listed():
    """Files and folders as the README lists them, lowest first."""
    text = re.search(r"```\nhf_infodist/\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    lines = text.splitlines()
    assert len(lines) < 25 and all(len(line) < 120 for line in lines)
    return [line.split()[0].removesuffix("/").removesuffix(".py") for line in lines]


def place(module):
    return module.split(".")[1] if "." in module else ""


def test_the_readme_lists_every_file_and_folder():
    there = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("__")}
    assert set(listed()) == there and len(there) == len(listed())
    folders = [path for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")]
    assert len(folders) <= 11 and len(there) - len(folders) <= 12


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"hf_infodist"}))
def test_imports_lead_up_the_list_of_the_readme(module):
    order = listed()
    later = {other for other in imported(module) if order.index(place(other)) > order.index(place(module))}
    assert not later


def test_no_import_leads_back():
    graph = {module: imported(module) for module in MODULES if module != "hf_infodist"}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES) - 1


def loaded(code):
    """Run Python in a process of its own; return the libraries that it has loaded then."""
    heavy = "torch", "timm", "transformers", "datasets", "accelerate", "scipy", "matplotlib", "gradio"
    after = f"\nimport sys; print(*[name for name in {heavy} if name in sys.modules], sep=chr(10), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + after], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A store, and in it a file as `infodist matrix -o` writes it."""
    home = tmp_path_factory.mktemp("home")
    models = ["demo:cnn", "demo:vit", "random:demo:cnn"]
    result = pairwise_distances(models, "digits", k=16, execution=Execution(home=home))
    (home / "matrix.json").write_text(json.dumps(result.to_dict()))
    return home


@pytest.mark.parametrize(
    "words",
    [
        ["results", "ls"],
        ["results", "show", "KEY"],
        ["results", "merge", "HOME"],
        ["map", "MATRIX", "--into", "FOLDER"],
        ["nearest", "demo:cnn", "--matrix", "MATRIX"],
        ["lineage", "--matrix", "MATRIX"],
        ["publish", "space", "acme/infodist"],
        ["--help"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_results_are_read_without_torch(words, home, tmp_path, monkeypatch):
    monkeypatch.setenv("INFODIST_HOME", str(home))
    key = Store(Home(home).codelengths).keys()[0]
    meant = {"MATRIX": home / "matrix.json", "HOME": home, "FOLDER": tmp_path, "KEY": key}
    argv = [str(meant.get(word, word)) for word in words]
    code = f"from hf_infodist.cli import main\ntry: main({argv!r})\nexcept SystemExit as stop: assert not stop.code"
    assert not {"torch", "timm", "datasets", "accelerate"} & loaded(code)


def test_the_page_starts_without_torch(tmp_path):
    pytest.importorskip("gradio")
    code = (
        "from pathlib import Path\nfrom hf_infodist.page import app\nfrom hf_infodist.page.request import Limits\n"
        f"app.build_demo(Path({str(tmp_path)!r}), Limits())"
    )
    assert "torch" not in loaded(code)


# Names


LIBRARIES = {"evaluate", "datasets", "gr", "timm", "torch", "torchvision", "transformers", "float"}
THEIRS = {
    "Dataset",
    "IterableDataset",
    "ClassLabel",
    "Image",
    "Blocks",
    "Tabs",
    "launch",
    "BlockEncoder",
    "MIREncoder",
}


def test_single_backticks_hold_names_that_can_be_looked_up_and_double_ones_what_is_typed():
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [node for path in MODULES.values() for node in ast.walk(ast.parse(path.read_text()))]
    known = LIBRARIES | THEIRS | {part for module in MODULES for part in module.split(".")}
    known |= {node.name for node in nodes if isinstance(node, kinds)}
    known |= {node.id for node in nodes if isinstance(node, ast.Name)}
    known |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, (*kinds, ast.Module))]
    quoted = {name for text in texts for name in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)}
    assert len(quoted) > 50
    assert not [name for name in quoted if not {*re.split(r"[.(]", name.rstrip("()"))} <= known]


def test_public_names_are_shown_and_documented():
    assert {*hf_infodist.__all__, "__version__"} == set(dir(hf_infodist))
    assert re.fullmatch(r"\d+\.\d+\.\d+", hf_infodist.__version__)
    named = (name for name in hf_infodist.__all__ if name != "PROTOCOLS")
    assert all(getattr(hf_infodist, name).__doc__ for name in named)
    with pytest.raises(AttributeError, match="no attribute 'infodist'"):
        hf_infodist.infodist  # noqa: B018


@pytest.mark.parametrize("reverse", [False, True], ids=["in order", "backwards"])
def test_public_names_are_the_same_in_any_order_and_after_every_module(reverse):
    names = sorted(hf_infodist.__all__, reverse=reverse)
    code = (
        "import hf_infodist, importlib\n"
        f"first = {{name: getattr(hf_infodist, name) for name in {names}}}\n"
        f"for module in sorted({sorted(MODULES)}, reverse={reverse}):\n"
        "    if 'studies' not in module and 'page' not in module and '__main__' not in module:\n"
        "        importlib.import_module(module)\n"
        f"again = {{name: getattr(hf_infodist, name) for name in {names}}}\n"
        "assert first == again, [name for name in first if first[name] is not again[name]]\n"
        "kinds = {name: type(thing).__name__ for name, thing in again.items()}\n"
        "assert 'module' not in kinds.values(), kinds\n"
    )
    loaded(code)


@pytest.mark.parametrize("reverse", [False, True], ids=["in order", "backwards"])
def test_a_module_imported_first_does_not_hide_a_public_name(reverse):
    names = sorted(hf_infodist.__all__, reverse=reverse)
    modules = [module for module in sorted(MODULES, reverse=reverse) if module.count(".") == 2]
    modules = [module for module in modules if not any(part in module for part in ("studies", "page", "__main__"))]
    code = (
        f"import importlib\nfor module in {modules}: importlib.import_module(module)\n"
        "import hf_infodist\n"
        f"assert not [name for name in {names} if type(getattr(hf_infodist, name)).__name__ == 'module']"
    )
    loaded(code)
