"""Muon in fp32 for a transformer's matrices, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class MuonAdamW(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz (Jordan et al. 2024) on hidden matrices, AdamW on the rest.

    torch.optim.Muon casts to bfloat16, which CPUs without AMX compute ten times slower; this one stays in fp32. The step of
    a matrix is scaled to AdamW's usual size, so that one learning rate serves both (Liu et al. 2025, "Muon is scalable",
    eq. 4).

    Args:
        model: every parameter of it that asks for gradients is trained.
        lr: learning rate of both.
        momentum: of Muon (Nesterov).
        betas, eps, weight_decay: of AdamW; the decay acts on matrices of both.
        muon: False trains everything with AdamW.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        muon: bool = True,
    ) -> None:
        trained = [p for p in model.parameters() if p.requires_grad]
        hidden = {id(p) for p in hidden_matrices(model)} if muon else set()
        groups = [
            {"params": [p for p in trained if id(p) in hidden], "muon": True},
            {"params": [p for p in trained if id(p) not in hidden], "muon": False},
        ]
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__([g for g in groups if g["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "MuonAdamW takes no closure"
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    (self._muon if group["muon"] else self._adamw)(p, p.grad, self.state[p], group)

    def _muon(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(grad, 1 - group["momentum"])
        update = orthogonalised(grad.lerp(state["momentum"], group["momentum"]))
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)

    def _adamw(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["mean"].lerp_(grad, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        denominator = (state["square"] / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
        if p.ndim > 1:
            p.mul_(1 - group["lr"] * group["weight_decay"])
        p.addcdiv_(state["mean"], denominator, value=-group["lr"] / (1 - beta1 ** state["step"]))


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The matrices inside transformer layers, torch's or BERT's: what Muon is for, as against embeddings, heads and vectors."""
    from transformers.models.bert.modeling_bert import BertLayer

    inner = [m for m in model.modules() if isinstance(m, (nn.TransformerEncoderLayer, BertLayer))]
    return [p for layer in inner for p in layer.parameters() if p.ndim == 2]


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values land in [0.7, 1.2] (quintic Newton-Schulz iteration).

    Args:
        matrix: (rows, columns), any scale. torch's in_proj of attention stacks three square matrices; each is done alone.
    """
    rows, columns = matrix.shape
    if rows == 3 * columns:
        return torch.cat([orthogonalised(part, steps) for part in matrix.chunk(3)])
    x = matrix.T if rows > columns else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    nearest: Tensor = x.T if rows > columns else x
    return nearest
