"""The bundled benepar parser: stored as 8-bit integers, unpacked once into the folder that benepar loads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from dlm_control.support.errors import UsageError
from dlm_control.support.hub import bundled

NAME = "benepar-open"
ENVIRONMENT = "DLM_BENEPAR"  # names another parser: a folder, or a model that benepar.download() has fetched, as benepar_en3


def parser_folder() -> Path | str:
    """What `benepar.Parser` is to load: $DLM_BENEPAR, or the bundled parser, unpacked.

    Raises:
        UsageError: there is none.
    """
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return chosen
    known = bundled()
    if NAME not in known:
        raise UsageError(f"no parser {NAME!r} in this package; name a benepar folder in ${ENVIRONMENT}")
    return unpack(known[NAME])


def pack(source: Path, target: Path) -> None:
    """Store a benepar folder with its matrices as 8-bit integers, one scale a row; vectors stay as they are.

    Args:
        source: a folder that benepar loads (`benepar_model.bin`, `config.json`, a tokenizer).
        target: the folder to write.
    """
    import torch
    from safetensors.torch import save_file

    stored: dict[str, torch.Tensor] = {}
    weights: dict[str, torch.Tensor] = torch.load(source / "benepar_model.bin", weights_only=True, map_location="cpu")
    for name, tensor in weights.items():
        if tensor.dim() == 2 and tensor.is_floating_point():
            scale = tensor.float().abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            stored[f"{name}.int8"] = (tensor.float() / scale).round().to(torch.int8)
            stored[f"{name}.scale"] = scale
        else:
            stored[name] = tensor.contiguous()
    target.mkdir(parents=True, exist_ok=True)
    save_file(stored, target / "model.safetensors")
    (target / "model.safetensors").chmod(0o644)  # safetensors gives its owner alone the right to read it
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, target / name)
        (target / name).chmod(0o644)


def unpack(folder: Path) -> Path:
    """The unpacked folder with `benepar_model.bin` of a packed one; made once and kept in the user's cache."""
    import torch
    from safetensors.torch import load_file

    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dlm-control" / f"{NAME}-{digest}"
    if home.is_dir():
        return home
    stored = load_file(folder / "model.safetensors")
    weights = {name: tensor for name, tensor in stored.items() if not name.endswith((".int8", ".scale"))}
    for name in [name.removesuffix(".int8") for name in stored if name.endswith(".int8")]:
        weights[name] = stored[f"{name}.int8"].float() * stored[f"{name}.scale"]
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to
        home = Path(tempfile.mkdtemp(prefix="dlm-control-")) / home.name
    trial = Path(tempfile.mkdtemp(dir=home.parent))
    torch.save(weights, trial / "benepar_model.bin")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(folder / name, trial / name)
    try:
        trial.rename(home)
    except OSError:  # another process was first
        shutil.rmtree(trial)
    return home


def described(folder: Path) -> str:
    """Labels that a parser knows, for error messages."""
    vocabulary = json.loads((folder / "config.json").read_text())["benepar"]["label_vocab"]
    return ", ".join(sorted({part for label in vocabulary for part in label.split("::") if part}))
