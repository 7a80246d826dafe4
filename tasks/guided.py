"""Models with the guides that a command line names."""

from __future__ import annotations

from collections.abc import Sequence

from dlm_control.controllers.guides.lookup import read_guides, use_guides
from dlm_control.pipeline import LanguageModel, load


def loaded(source: str, guides: Sequence[str] | None = None, device: str = "cpu", dtype: str = "float32") -> LanguageModel:
    """A language model that uses these guides in place of those that would be found.

    Args:
        source: of the model, as for `load`.
        guides: texts such as `structure=runs/structure`, or None.
        device, dtype: as for `load`.

    Raises:
        UsageError: as `load`, `read_guides` and `use_guides`.
    """
    lm = load(source, device, dtype)
    use_guides(lm, **read_guides(guides or ()))
    return lm
