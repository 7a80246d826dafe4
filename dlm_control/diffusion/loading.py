"""Finding the backbone that reads a model's folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from dlm_control.diffusion.backbone import Backbone
from dlm_control.support.errors import UsageError, suggestion
from dlm_control.support.hub import model_folder
from dlm_control.support.registry import Registry, subclass_of

BACKBONES: Registry[type[Backbone]] = Registry(
    "backbone", "dlm_control.backbones", "a subclass of Backbone", subclass_of(Backbone)
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_backbone(source: str | Path, device: str | torch.device = "cpu", dtype: str | torch.dtype = "float32") -> Backbone:
    """A frozen diffusion language model.

    Args:
        source: a bundled name, a folder that `dlm train` or transformers wrote, or a hub id.
        device: that the model is moved to.
        dtype: of the network's weights: float32, bfloat16 or float16. Energies are float32 all the same.

    Raises:
        UsageError: nothing is there, no backbone reads it, or device or dtype are none.
    """
    expected, place = dtype_of(dtype), device_of(device)
    folder = model_folder(source)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / 'config.json'}: cannot be read as JSON: {error}") from None
    cls = next((cls for cls in BACKBONES.values() if isinstance(config, dict) and cls.reads(config)), None)
    if cls is None:
        what = config.get("architectures") or config.get("model_type") if isinstance(config, dict) else config
        raise UsageError(
            f"model {str(source)!r}: {folder / 'config.json'} says {what!r}, which is no diffusion language model; "
            f"there are backbones for: {', '.join(BACKBONES)} (a Diffusion-LM of `dlm train`, or a model of transformers that "
            "ends in ForMaskedLM)"
        )
    lm = cls.load(folder, str(source))
    return lm if place.type == "cpu" and expected is torch.float32 else lm.to(place, expected)


def device_of(given: str | torch.device) -> torch.device:
    """A device that can be used.

    Raises:
        UsageError: there is no such one here.
    """
    try:
        device = torch.device(given)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise UsageError(f"device: {given!r} cannot be used: {str(error).splitlines()[0]}; cpu always can") from None
    return device


def dtype_of(given: str | torch.dtype) -> torch.dtype:
    """The dtype of that name.

    Raises:
        UsageError: no network of ours runs in it.
    """
    found = next((dtype for name, dtype in DTYPES.items() if given in (name, dtype)), None)
    if found is None:
        raise UsageError(f"dtype: unknown {given!r}{suggestion(str(given), DTYPES)}; there are: {', '.join(DTYPES)}")
    return found
