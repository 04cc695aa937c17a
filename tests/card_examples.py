"""The examples of the metric's card: `python tests/card_examples.py` runs them and writes what they print into it.

A figure has three digits there, of which the last may differ elsewhere.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CARD = ROOT / "metrics" / "infodist" / "README.md"
_CODE = re.compile(r"```python\n(.*?)```\n", re.DOTALL)
_EXAMPLE = re.compile(r"```python\n((?:(?!```).)*)```\n\n```text\n(.*?)```\n", re.DOTALL)


def code_blocks() -> list[str]:
    """Return all Python of the card."""
    return _CODE.findall(CARD.read_text(encoding="utf-8"))


def examples() -> list[tuple[str, str]]:
    """Return the code of each example and the line that it is said to print; later ones build on earlier ones."""
    return _EXAMPLE.findall(CARD.read_text(encoding="utf-8"))


def run(code: str, folder: Path, *words: str, launcher=(), cwd: Path = ROOT, **environment: str) -> list[dict]:
    """Run code from a file in ``folder`` with its own caches there, and read the dictionaries it prints."""
    script = folder / "example.py"
    script.write_text(code, encoding="utf-8")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, *launcher, str(script), *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path, "HF_HOME": str(folder / "home")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [read(line) for line in done.stdout.splitlines()]


def read(line: str) -> dict:
    return ast.literal_eval(line.strip())


def main() -> None:
    """Write the figures anew."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        printed = run("".join(code for code, _ in examples()), Path(folder))
    card = CARD.read_text(encoding="utf-8")
    for (code, old), results in zip(examples(), printed, strict=True):
        new = {name: rounded(nats) for name, nats in results.items()}
        card = card.replace(f"{code}```\n\n```text\n{old}", f"{code}```\n\n```text\n{new}\n")
    CARD.write_text(card, encoding="utf-8")


def rounded(nats):
    return [rounded(value) for value in nats] if isinstance(nats, list) else float(f"{nats:.3g}")


if __name__ == "__main__":
    main()
