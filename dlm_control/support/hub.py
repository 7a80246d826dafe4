"""Where models come from: bundled with the package, a folder, or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import os
from importlib.resources import files
from pathlib import Path

from dlm_control.support.errors import UsageError, suggestion

_BUNDLES = ("dlm_control", "dlm_control.controllers", "dlm_control.eval")


def bundled() -> dict[str, Path]:
    """The models inside this package, by name."""
    found: dict[str, Path] = {}
    for package in _BUNDLES:
        models = Path(str(files(package))) / "models"
        if models.is_dir():
            found |= {folder.name: folder for folder in sorted(models.iterdir()) if (folder / "config.json").is_file()}
    return found


def file_digest(file: Path) -> str:
    """The first 16 digits of a file's SHA-256."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def model_folder(source: str | Path) -> Path:
    """The folder of a model, downloaded first when `source` is a hub id.

    Args:
        source: a bundled name, a folder, or a hub id such as `owner/model`.

    Raises:
        UsageError: nothing is there, or the folder lacks its weights or holds them only as a pickle.
    """
    known = bundled()
    if str(source) in known:
        return known[str(source)]
    path = Path(source) if "\0" in str(source) else Path(os.path.expanduser(source))
    if os.path.isdir(path):
        _check(path)
        return path
    if str(source).count("/") != 1 or path.is_absolute() or str(source).startswith("."):
        raise UsageError(
            f"model {str(source)!r}: neither bundled nor a folder{suggestion(str(source), known)}; "
            f"bundled: {', '.join(known) or 'none'}"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(str(source), allow_patterns=["*.json", "*.safetensors", "*.md", "*.yaml"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(f"model {str(source)!r}: no such folder, and the hub does not give it: {error}") from None
    _check(path)
    return path


def _check(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder}: not a model folder, it has no config.json; `dlm train` writes one that has")
    if not (folder / "model.safetensors").is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pkl", ".ckpt"))
        reason = (
            f"it holds {pickles[0]}, and a pickle can run code when it is loaded, so it is refused; convert it to safetensors"
            if pickles
            else "expected model.safetensors"
        )
        raise UsageError(f"{folder}: no weights: {reason}")
