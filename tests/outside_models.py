"""Tiny networks of random weights and tokenizers trained on a few sentences: what models from outside look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

SENTENCES = [
    "The Golden Fox is a cheap pub near the riverside.",
    "It isn't expensive, and it's rated 5 out of 5.",
    "A cafe called The Blue Lantern is near the station and the park, a family friendly place.",
] * 20


def byte_pairs() -> PreTrainedTokenizerFast:
    """Byte-level BPE, as in LLaDA, Dream and DiffuCoder."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<eos>", "<mask>"]
    made.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", mask_token="<mask>")


def word_pieces() -> PreTrainedTokenizerFast:
    """WordPiece, as in BERT."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "eos_token": "[SEP]", "mask_token": "[MASK]"}
    made.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(vocab_size=200, special_tokens=[*special.values()]))
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def sentence_pieces() -> PreTrainedTokenizerFast:
    """Unigram with marks for spaces, as in Gemma."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<eos>", "<mask>", "<unk>"]
    made.train_from_iterator(SENTENCES, trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", mask_token="<mask>", unk_token="<unk>")


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte pairs": byte_pairs, "word pieces": word_pieces, "sentence pieces": sentence_pieces,
}  # fmt: skip


def masked(size: int, seed: int = 0) -> BertForMaskedLM:
    """A masked language model; wide weights, so that its distributions are not flat."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    network = BertForMaskedLM(config)
    network.eval()
    return network


class Shifted(nn.Module):
    """The same network, its logits at each position those of the token behind it: as Dream and DiffuCoder are trained."""

    def __init__(self, network: BertForMaskedLM) -> None:
        super().__init__()
        self.network, self.config = network, network.config

    def get_input_embeddings(self) -> Any:
        return self.network.get_input_embeddings()

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids=input_ids).logits
        return torch.cat([logits[:, 1:], logits[:, -1:]], 1)


class MaskOutside(nn.Module):
    """A network whose mask token lies behind its vocabulary, as MDLM's does: it takes one id more than it has logits."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.network, self.size = masked(size + 1), size
        self.config = self.network.config

    def get_input_embeddings(self) -> Any:
        return self.network.get_input_embeddings()

    def forward(self, input_ids: Tensor, sigma: Tensor | None = None) -> Tensor:
        logits: Tensor = self.network(input_ids=input_ids).logits
        return logits[..., : self.size]


def gemma(size: int, canvas: int) -> Any:
    """A DiffusionGemma with all its parts, each as small as can be."""
    from transformers.models.diffusion_gemma.configuration_diffusion_gemma import DiffusionGemmaConfig
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

    torch.manual_seed(0)
    text = {
        "vocab_size": size, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "global_head_dim": 16, "num_global_key_value_heads": 1, "num_experts": 2,
        "top_k_experts": 1, "moe_intermediate_size": 32, "max_position_embeddings": 256, "pad_token_id": 0, "eos_token_id": 0,
        "bos_token_id": 0, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    vision = {
        "model_type": "gemma4_vision", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "global_head_dim": 16, "patch_size": 4,
        "position_embedding_size": 16,
    }  # fmt: skip
    ids = {"image_token_id": size + 1, "boi_token_id": None, "eoi_token_id": None}
    model = DiffusionGemmaForBlockDiffusion(
        DiffusionGemmaConfig(text_config=text, vision_config=vision, canvas_length=canvas, **ids)
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def dream_loop(network: nn.Module, tokens: Tensor, mask: int, hook: Callable[[int | None, Tensor, Tensor], Tensor]) -> Tensor:
    """The sampling loop that Dream and DiffuCoder ship, one token a step: its shift, and its slot for a hook."""
    open_tokens, step = int((tokens == mask).sum(1).max()), 0
    while step < open_tokens:
        logits = network(tokens)
        logits = torch.cat([logits[:, :1], logits[:, :-1]], 1)
        probs = hook(step, tokens, logits).softmax(-1)
        drawn = torch.distributions.Categorical(probs).sample()
        confidence = probs.gather(-1, drawn[..., None])[..., 0].masked_fill(tokens != mask, -1)
        place = confidence.argmax(1, keepdim=True)
        tokens = tokens.scatter(1, place, drawn.gather(1, place))
        step += 1
    return tokens
