"""Where everything is kept between runs: the one owner of every path, and files that survive a power cut."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The folder of everything that is kept between runs.

    Attributes:
        folder: It may be shared by any number of machines.
    """

    folder: Path

    @classmethod
    def at(cls, folder: Path | None = None) -> "Home":
        """Return a folder as a home; if None ``INFODIST_HOME``, or ``infodist`` in the Hub's home."""
        return cls(folder or infodist_home())

    @property
    def codelengths(self) -> Path:
        """Folder of the store: one file per directed codelength."""
        return self.folder / "codelengths"

    @property
    def outputs(self) -> Path:
        """Folder of the outputs of models: can be deleted at any time."""
        return self.folder / "outputs"

    @property
    def runs(self) -> Path:
        """Folder of what is being computed: claims, checkpoints, and notes of what has failed."""
        return self.folder / "runs"

    @property
    def pages(self) -> Path:
        """Folder of what the page for a browser has shown."""
        return self.folder / "pages"

    @property
    def tensorboard(self) -> Path:
        """Folder of the curves that TensorBoard reads."""
        return self.folder / "tensorboard"

    def answer_to(self, question: str) -> Path:
        """Return the note that says which codelengths answer a question, by its key: can be deleted at any time."""
        return self.folder / "answers" / f"{question}.json"

    def outputs_of(self, key: str) -> Path:
        """Return the folder of the outputs of one model on one sample."""
        return self.outputs / key

    def pixels_of(self, key: str) -> Path:
        """Return the folder of one sample under one preprocessing."""
        return self.outputs / f"pixels-{key}"

    def run_of(self, key: str) -> Path:
        """Return the folder of the checkpoints of one run; the claim on it has the same name."""
        return self.runs / key

    def student_of(self, outputs: str) -> Path:
        """Return the name of the claim on a student with all of its teachers."""
        return self.runs / f"student-{outputs}"

    def failure_of(self, key: str) -> Path:
        """Return the note that says why a codelength could not be computed."""
        return self.runs / f"{key}.failed"

    def failures(self) -> dict[str, Path]:
        """Return the notes of all that could not be computed, by key."""
        return {path.stem: path for path in self.runs.glob("*.failed")}


def infodist_home() -> Path:
    """Return ``INFODIST_HOME``, or ``infodist`` in the Hub's home."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("INFODIST_HOME") or Path(HF_HOME) / "infodist").expanduser()


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that survives a power cut once this returns."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
