"""Where a language model's guides are: a guide belongs to the model whose embeddings it reads.

A path that the caller names comes first, then `<model folder>/guides/<kind>`, then a bundled guide with the model's
fingerprint. Paths are given to the model and not to each control: tags, spans and trees share one guide, so two controls of one
text cannot use different ones, and a spec holds no path of one machine.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from dlm_control.support.errors import UsageError, suggestion
from dlm_control.support.hub import bundled, model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dlm_control.diffusion.backbone import Backbone
    from dlm_control.pipeline import LanguageModel

N = TypeVar("N", bound="PreTrainedModel")

KINDS = {
    "structure": "DATA being the corpus as `dlm annotate` writes it",
    "syntax": "DATA being the corpus as `dlm annotate` writes it",
    "semantic": "DATA being a CSV with a column for each field, or `mr`",
}


class Found(NamedTuple):
    """A guide's folder, and the fingerprint of the embeddings that it was trained on."""

    folder: Path
    fingerprint: str


def use_guides(lm: LanguageModel, **paths: str | Path) -> None:
    """Name the guides that a model's controls use, in place of those that would be found.

    Args:
        lm: the model.
        **paths: by kind (`structure`, `syntax`, `semantic`), the folder that `dlm train` wrote, a bundled name or a hub id.

    Raises:
        UsageError: an unknown kind, nothing at the path, a guide of another kind, or one trained on other embeddings.
    """
    for kind, path in paths.items():
        if kind not in KINDS:
            raise UsageError(f"guide {kind!r}: unknown kind{suggestion(kind, KINDS)}; there are: {', '.join(KINDS)}")
        found = _read(kind, model_folder(path))
        if found is None:
            raise UsageError(f"guide {str(path)!r}: not a {kind} guide; {_command(kind, lm.backbone)} trains one")
        _check(kind, found, lm.backbone)
        _named(lm.backbone)[kind] = found.folder


def read_guides(given: Sequence[str]) -> dict[str, str]:
    """Kinds and paths of texts such as `structure=runs/structure`, as a command line gives them.

    Raises:
        UsageError: one is no such text.
    """
    pairs = [text.partition("=") for text in given]
    wrong = [text for text, (_, sign, path) in zip(given, pairs, strict=True) if not (sign and path)]
    if wrong:
        raise UsageError(f"--guide {wrong[0]!r}: expected KIND=PATH, such as structure=runs/structure")
    return {kind: path for kind, _, path in pairs}


def find_guide(kind: str, lm: Backbone) -> Path | None:
    """The folder of a model's guide, or None where it has none.

    Args:
        kind: one of KINDS.
        lm: the model.

    Raises:
        UsageError: the guide beside the model was trained on other embeddings than the model has.
    """
    if kind in _named(lm):
        return _named(lm)[kind]
    home = lm.home
    found = _read(kind, home / "guides" / kind) if home else None
    if found is not None:
        _check(kind, found, lm, f"remove {found.folder}; ")
        return found.folder
    candidates = (_read(kind, folder) for folder in bundled().values())
    return next((each.folder for each in candidates if each and each.fingerprint == lm.fingerprint), None)


def load_guide(cls: type[N], kind: str, lm: Backbone) -> N:
    """A model's guide, loaded once and frozen.

    Args:
        cls: of the network.
        kind: one of KINDS.
        lm: the model.

    Raises:
        UsageError: there is none, with the command that trains one; or it was trained on other embeddings.
    """

    def loaded() -> N:
        folder = find_guide(kind, lm)
        if folder is None:
            raise UsageError(
                f"{lm.source!r} has no {kind} guide; {_command(kind, lm)} trains one, {KINDS[kind]}; {_afterwards(kind, lm)}"
            )
        network: N = cls.from_pretrained(folder)
        network.eval().requires_grad_(False).to(lm.device)
        return network

    return lm.once(f"{kind} guide {_named(lm).get(kind, '')}", loaded)


def _command(kind: str, lm: Backbone) -> str:
    known = lm.home is not None
    source = shlex.quote(lm.source) if known else "FOLDER"
    out = f" --out runs/{kind}-guide" if known and not Path(lm.source).expanduser().is_dir() else ""
    return f"`dlm train --kind {kind}-guide --lm {source} --data DATA{out}`"


def _afterwards(kind: str, lm: Backbone) -> str:
    """How the guide of `_command` is found."""
    if lm.home is None:
        return f"save the model to FOLDER first, and load it from there: the guide is found in FOLDER/guides/{kind}"
    if Path(lm.source).expanduser().is_dir():
        return f"it is then found in {Path(lm.source) / 'guides' / kind}"
    return f"then name it: --guide {kind}=runs/{kind}-guide, or use_guides(lm, {kind}='runs/{kind}-guide')"


def _check(kind: str, found: Found, lm: Backbone, before: str = "") -> None:
    if found.fingerprint != lm.fingerprint:
        raise UsageError(
            f"the {kind} guide {found.folder} was trained on other embeddings than {lm.source!r} has "
            f"(fingerprint {found.fingerprint}, expected {lm.fingerprint}); {before}{_command(kind, lm)} trains one"
        )


def _read(kind: str, folder: Path) -> Found | None:
    """A folder as a guide of that kind; None where it is none."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        raise UsageError(f"{file}: not JSON; remove {folder} and train the guide again") from None
    return Found(folder, str(config.get("fingerprint"))) if config.get("model_type") == f"dlm-{kind}-guide" else None


def _named(lm: Backbone) -> dict[str, Path]:
    """The guides that `use_guides` named for a model."""
    return lm.once("guides by path", dict[str, Path])
