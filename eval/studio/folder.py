"""The folder that a studio works in: what a page can name in it, and nothing outside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from dlm_control.diffusion.loading import BACKBONES
from dlm_control.support.errors import UsageError, short_repr
from dlm_control.support.hub import bundled

MAX_BYTES = 20_000_000  # of a file that a page shows
MAX_SPEC = 20_000
_MOST_ENTRIES, _DEEPEST = 20_000, 6  # of a folder's tree that is looked through
_BEHIND_THE_SCENES = ("node_modules", "__pycache__", "site-packages")


class Folder:
    """A folder, and the files in it that a page can read or write.

    Args:
        path: of the folder.

    Raises:
        UsageError: there is no such folder.
    """

    def __init__(self, path: Path) -> None:
        self.root = Path(os.path.realpath(path))
        if not self.root.is_dir():
            raise UsageError(f"studio: no folder {path}; give one that exists")

    def path(self, name: str) -> Path:
        """A path inside, links resolved.

        Raises:
            UsageError: it leads outside, whether or not something is there.
        """
        try:
            path = Path(os.path.realpath(self.root / os.path.expanduser(name)))
        except (OSError, ValueError):
            path = Path(os.sep)
        if not path.is_relative_to(self.root):
            raise UsageError(f"{short_repr(name)}: outside of the studio's folder; give a path inside it")
        return path

    def read(self, name: str, most: int = MAX_BYTES) -> str:
        """The text of a file.

        Raises:
            UsageError: it is outside, missing, too large, or no text.
        """
        path = self.path(name)
        try:
            with open(path, "rb") as file:
                raw = file.read(most + 1)
            if len(raw) > most:
                raise UsageError(f"{name}: larger than {most:,} bytes, the most that the studio reads of such a file")
            return raw.decode("utf-8-sig")
        except OSError as error:
            raise UsageError(f"{name}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{name}: not UTF-8 text") from None

    def new_file(self, name: str, ending: str) -> Path:
        """The path of a file that can be written and is not there yet.

        Args:
            name: of the file.
            ending: that the name must have.

        Raises:
            UsageError: it is outside or hidden, has another ending, is there already, or has no folder to lie in.
        """
        path = self.path(name.strip())
        if (
            path.suffix != ending
            or path.name == ending
            or any(part.startswith(".") for part in path.relative_to(self.root).parts)
        ):
            raise UsageError(f"{short_repr(name)}: expected a name that ends with {ending}, such as mine{ending}")
        if not path.parent.is_dir():
            raise UsageError(f"{name}: there is no folder {path.parent.relative_to(self.root)}")
        if path.exists():
            raise UsageError(f"{name}: exists already; choose another name")
        return path

    def specs(self) -> list[str]:
        """Files that look like specs."""
        return self._found(lambda path: path.suffix in (".yaml", ".yml") and _begins_with_controls(path))

    def texts(self) -> list[str]:
        """Files of texts that `dlm generate` wrote."""
        return self._found(lambda path: path.suffix == ".jsonl" and path.with_name(f"{path.name}.manifest.json").is_file())

    def runs(self) -> list[str]:
        """Folders of runs that `dlm eval` wrote."""
        return [os.path.dirname(name) or "." for name in self._found(lambda path: path.name == "scores.json")]

    def curves(self) -> list[str]:
        """Files of curves that `dlm bench` wrote."""
        return self._found(lambda path: path.name.startswith("bench-") and path.suffix == ".json")

    def models(self) -> list[str]:
        """Diffusion language models: the bundled ones, then folders inside."""
        known = _bundled_models()
        own = self._found(lambda path: path.name == "config.json" and path.parent not in known.values() and _is_model(path))
        return [*known, *filter(None, map(os.path.dirname, own))]

    def _found(self, wanted: Callable[[Path], bool]) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self._files() if wanted(path))

    def _files(self) -> Iterator[Path]:
        """The files of the tree, as far as it is looked through; no links, and nothing hidden."""
        seen = 0
        for folder, folders, files in os.walk(self.root):
            depth = len(Path(folder).relative_to(self.root).parts)
            hidden = [name for name in folders if name.startswith(".") or name in _BEHIND_THE_SCENES]
            folders[:] = sorted({*folders} - {*hidden}) if depth < _DEEPEST else []
            seen += len(files) + len(folders)
            if seen > _MOST_ENTRIES:
                return
            yield from (path for name in files if not name.startswith(".") and not (path := Path(folder, name)).is_symlink())


@cache
def _bundled_models() -> dict[str, Path]:
    return {name: path for name, path in bundled().items() if _is_model(path / "config.json")}


def _begins_with_controls(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_SPEC + 1)
    except OSError:
        return False
    return len(raw) <= MAX_SPEC and any(line.startswith(b"controls:") for line in raw.splitlines())


def _is_model(config: Path) -> bool:
    try:
        content = json.loads(config.read_bytes()[:MAX_BYTES])
    except (OSError, ValueError):
        return False
    weights = config.with_name("model.safetensors").is_file()
    return weights and isinstance(content, dict) and any(backbone.reads(content) for backbone in BACKBONES.values())
