"""Reading a checkpoint of the 2022 release (github.com/XiangLi1999/Diffusion-LM) as a network and a tokenizer of ours."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlm_control.diffusion.paper_model import PaperLM, PaperLMConfig
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr
from dlm_control.text.tokenizer import WordTokenizer
from dlm_control.text.words import split_words

TABLES = ("lm_head", "word_embedding")
START, NEWLINE = "START", "\n"
_SIGNS = (START, "END", "UNK", "PAD")
_HEAD = 64  # width of an attention head in every BERT
_ROUNDINGS = {1: "dot", 2: "distance"}  # logits_mode
_EXPECTED = {  # of training_args.json: the settings of networks that are read here
    "model_arch": ("transformer",), "training_mode": ("e2e",), "predict_xstart": (True,), "experiment_mode": ("lm",),
    "padding_mode": ("pad",), "noise_schedule": ("sqrt", "cosine"), "logits_mode": (1, 2), "learn_sigma": (False,),
}  # fmt: skip


class PaperCheckpoint(NamedTuple):
    """What the files of a run of the release hold.

    Attributes:
        model: the network.
        tokenizer: its words.
        notes: what users should know of the conversion.
    """

    model: PaperLM
    tokenizer: WordTokenizer
    notes: Sequence[str]


def read_paper_checkpoint(weights: Path, table: str = "lm_head") -> PaperCheckpoint:
    """The network and the words of a checkpoint; `vocab.json` and, if it is there, `training_args.json` lie beside it.

    Args:
        weights: a `.pt` file, `model*.pt` or `ema_*.pt`.
        table: which word embeddings: in an average of weights (`ema_*.pt`) the tied table is stored twice, `word_embedding` as
            the average and `lm_head` as the weights of that step. The release loads `lm_head` last, and so decodes with it.

    Raises:
        UsageError: a file is missing or cannot be read, or holds no such network; all faults of the weights in one report.
    """
    if table not in TABLES:
        raise UsageError(f"table: unknown {table!r}; there are: {', '.join(TABLES)}")
    state, vocab = _state(weights), _vocabulary(weights.with_name("vocab.json"))
    settings, notes = _settings(weights.with_name("training_args.json"))
    config = _config(state, settings, vocab)
    model = PaperLM(config).eval()
    _check(weights, state, model, vocab)
    ours = {key: value for key, value in state.items() if key not in ("position_ids", "lm_head.weight", "lm_head.bias")}
    ours |= {"word_embedding.weight": state[f"{table}.weight"], "rounding_bias": state["lm_head.bias"]}
    model.load_state_dict(ours)
    apart = float((state["lm_head.weight"] - state["word_embedding.weight"]).abs().max())
    if apart:
        notes.append(f"the two tables of embeddings differ by up to {apart:.2g}; that of {table} is taken")
    tokenizer, strange = _tokenizer(vocab)
    if strange:
        listed = ", ".join(map(repr, strange[:5])) + (", …" if len(strange) > 5 else "")
        notes.append(f"{len(strange)} of {len(vocab)} words are no words by our rule, and no text will hold them: {listed}")
    return PaperCheckpoint(model, tokenizer, notes)


def _state(file: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"{file}: cannot be read as weights: {reason[0]}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"{file}: expected a dictionary of tensors, as the release saves it, got a {type(state).__name__}")
    return {key: value.detach() for key, value in state.items()}


def _vocabulary(file: Path) -> dict[str, int]:
    try:
        vocab: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read as JSON: {error}; the release writes it beside the weights") from None
    numbered = isinstance(vocab, dict) and all(type(number) is int for number in vocab.values())
    if not numbered or sorted(vocab.values()) != list(range(len(vocab))):
        raise UsageError(f"{file}: expected an object of words, numbered from 0 without a gap")
    lacking = [sign for sign in _SIGNS if sign not in vocab]
    if lacking:
        raise UsageError(f"{file}: has no {', '.join(lacking)}; the release's vocabularies begin with {', '.join(_SIGNS)}")
    known: dict[str, int] = vocab
    return known


def _settings(file: Path) -> tuple[Mapping[str, Any], list[str]]:
    """What a run was trained with, and a note where that is not known."""
    if not file.is_file():
        return {}, [f"no {file.name} beside it: taken as trained with the release's defaults (T = 2000, sqrt, pad)"]
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{file}: cannot be read as JSON: {error}") from None
    if not isinstance(settings, dict):
        raise UsageError(f"{file}: expected an object of settings, got {short_repr(settings)}")
    problems = ErrorCollector(str(file))
    for key, known in _EXPECTED.items():
        if key in settings and settings[key] not in known:
            takes = " or ".join(map(repr, known))
            problems.add(key, f"{settings[key]!r} is another kind of network or training; {takes} can be converted")
    for key in ("diffusion_steps", "image_size"):
        if key in settings and not (isinstance(settings[key], int) and settings[key] > 0):
            problems.add(key, f"expected a whole number above 0, got {settings[key]!r}")
    problems.raise_if_any()
    return settings, []


def _config(state: Mapping[str, Tensor], settings: Mapping[str, Any], vocab: Mapping[str, int]) -> PaperLMConfig:
    """Sizes as the weights have them; where a weight is missing, those of the release."""

    def size(key: str, axis: int, usual: int) -> int:
        return state[key].shape[axis] if key in state and state[key].ndim > axis else usual

    width = size("position_embeddings.weight", 1, 768)
    layers = {int(key.split(".")[2]) for key in state if key.startswith("input_transformers.layer.")}
    return PaperLMConfig(
        vocab_size=len(vocab),
        dim=size("word_embedding.weight", 1, 16),
        width=width,
        depth=max(layers, default=11) + 1,
        heads=max(1, width // _HEAD),
        inner=size("input_transformers.layer.0.intermediate.dense.weight", 0, 4 * width),
        positions=size("position_embeddings.weight", 0, 512),
        time_features=size("time_embed.0.weight", 1, 128),
        canvas=settings.get("image_size", 8) ** 2,
        diffusion_steps=settings.get("diffusion_steps", 2000),
        rescale_timesteps=settings.get("rescale_timesteps", True),
        schedule=settings.get("noise_schedule", "sqrt"),
        rounding=_ROUNDINGS[settings.get("logits_mode", 1)],
        newline_token_id=vocab.get(NEWLINE),
    )


def _check(file: Path, state: Mapping[str, Tensor], model: PaperLM, vocab: Mapping[str, int]) -> None:
    """Refuse weights that are missing, of another shape, or of no part of the network.

    Raises:
        UsageError: with all of them.
    """
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    expected["lm_head.bias"] = expected.pop("rounding_bias")
    expected["lm_head.weight"] = expected["word_embedding.weight"]
    problems = ErrorCollector(str(file))
    if any(key.startswith("module.") for key in state):
        problems.add("", "its keys begin with `module.`; the release saves them without")
    if "encoder_emb.weight" in state:
        problems.add("", "it is a conditional network (experiment_mode conditional_gen), which cannot be converted")
    for key in sorted(expected.keys() - state.keys()):
        problems.add(key, f"missing; expected {expected[key]}")
    for key in sorted(expected.keys() & state.keys()):
        if (found := tuple(state[key].shape)) != expected[key]:
            about = f"; vocab.json has {len(vocab)} words" if key in ("word_embedding.weight", "lm_head.bias") else ""
            problems.add(key, f"has the shape {found}, expected {expected[key]}{about}")
    for key in sorted(state.keys() - expected.keys() - {"position_ids"}):
        problems.add(key, "is no weight of the release's transformer")
    if model.config.canvas > model.config.positions:
        problems.add(
            "position_embeddings.weight", f"sequences of {model.config.canvas} do not fit {model.config.positions} rows"
        )
    problems.raise_if_any()


def _tokenizer(vocab: Mapping[str, int]) -> tuple[WordTokenizer, list[str]]:
    """The tokenizer of a vocabulary, and its tokens that our rule cuts in another way than spaCy, or not into words at all."""
    strange = [word for word in vocab if word not in (*_SIGNS, NEWLINE) and split_words(word) != [word]]
    signs = [*strange, NEWLINE] if NEWLINE in vocab else strange
    return WordTokenizer.from_vocab(vocab, signs, bos_token=START), strange
