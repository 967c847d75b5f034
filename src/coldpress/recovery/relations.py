"""How far a transformer's attention is from another's, by what reaches ``scaled_dot_product_attention``.

Where both have the same heads, what is compared is MiniLM's: the attention that queries and keys make, and the relation
of values to each other (Wang et al. 2020, arXiv:2002.10957). Where they cannot be told to be the same ones, the vectors
of all heads are put side by side, split into as many heads on both sides, and related to themselves, as in MiniLMv2
(Wang et al. 2021, arXiv:2012.15828).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

NEVER = -1e9


@dataclass(frozen=True)
class Attended:
    """What reached attention.

    Attributes:
        query, key, value: ``(batch, heads, tokens, features)``; keys and values may have fewer heads.
        mask: None, or broadcast to ``(batch, heads, tokens, tokens)``: bool (may be seen) or float (added).
        causal: whether later tokens are not seen.
        scale: of the products; None is one over the root of the features.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    causal: bool
    scale: float | None

    @property
    def heads(self) -> int:
        return self.query.shape[1]

    def of_heads(self, kept: Tensor) -> Attended:
        """Some of the heads: ``(heads,)`` bool."""
        query, key, value = (_every_head(tensor, self.heads)[:, kept] for tensor in (self.query, self.key, self.value))
        mask = self.mask
        if mask is not None and mask.dim() == 4 and mask.shape[1] == self.heads > 1:
            mask = mask[:, kept]
        return replace(self, query=query, key=key, value=value, mask=mask)

    def seen(self) -> Tensor:
        """Which tokens may be seen by which, by any head: ``(batch, 1, tokens, tokens)`` bool."""
        batch, _, queries, _ = self.query.shape
        keys = self.key.shape[2]
        found = torch.ones(batch, 1, queries, keys, dtype=torch.bool, device=self.query.device)
        if self.causal:
            found = found.tril()
        if self.mask is not None:
            mask = self.mask if self.mask.dtype == torch.bool else self.mask > torch.finfo(self.mask.dtype).min / 2
            mask = mask[(None,) * (4 - mask.dim())]
            found = found & mask.any(1, keepdim=True)
        return found

    def bias(self) -> Tensor | float:
        """What is added to the products."""
        return self.mask.float() if self.mask is not None and self.mask.dtype != torch.bool else 0.0


def attention_distance(student: Attended, teacher: Attended, kept: Tensor | None = None) -> Tensor:
    """KL divergence (nats) of the student's attention and relations from the teacher's.

    It is the mean over relations, heads and tokens; tokens that none may see (padding) and those that see none do not
    count.

    Args:
        student, teacher: of the same tokens.
        kept: the heads of the teacher that the student's are, ``(heads of keys,)`` bool; None where unknown.
    """
    if kept is not None and teacher.heads % len(kept) == 0:
        kept = kept.to(teacher.query.device).repeat_interleave(teacher.heads // len(kept))
        if int(kept.sum()) == student.heads:
            teacher = teacher.of_heads(kept)
    seen = teacher.seen()
    rows = seen.any(-1)
    if seen.shape[-2] == seen.shape[-1]:
        rows = rows & seen.any(-2)
    pairs = zip(_relations(student, teacher, seen), _relations(teacher, student, seen))
    found = [(b.exp() * (b - a)).sum(-1) for a, b in pairs]
    count = rows.sum().clamp(min=1)
    return torch.stack([(rows * part).sum() / (count * part.shape[1]) for part in found]).mean()


def _relations(own: Attended, other: Attended, seen: Tensor) -> list[Tensor]:
    """Logarithms of the relations that both sides have in the same form, ``(batch, heads, tokens, tokens)`` each."""
    if own.heads == other.heads:
        query, key, value = (_every_head(x, own.heads) for x in (own.query, own.key, own.value))
        return [_relation(query, key, own.scale, own.bias(), seen), _relation(value, value, None, 0.0, seen)]
    found = []
    for mine, theirs in zip((own.query, own.key, own.value), (other.query, other.key, other.value)):
        width, common = mine.shape[1] * mine.shape[3], math.gcd(*(x.shape[1] * x.shape[3] for x in (mine, theirs)))
        heads = max(n for n in range(1, max(own.heads, other.heads) + 1) if common % n == 0)
        side_by_side = mine.transpose(1, 2).flatten(2)
        vectors = side_by_side.view(*side_by_side.shape[:2], heads, width // heads).transpose(1, 2)
        found.append(_relation(vectors, vectors, None, 0.0, seen))
    return found


def _relation(left: Tensor, right: Tensor, scale: float | None, bias: Tensor | float, seen: Tensor) -> Tensor:
    scale = left.shape[-1] ** -0.5 if scale is None else scale
    products = left.float() @ right.float().transpose(-1, -2) * scale + bias
    return products.masked_fill(~seen, NEVER).log_softmax(-1)


def _every_head(tensor: Tensor, heads: int) -> Tensor:
    """Keys or values that several queries share, once for each."""
    return tensor if tensor.shape[1] == heads else tensor.repeat_interleave(heads // tensor.shape[1], 1)


def attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Attended:
    """What ``scaled_dot_product_attention`` was called with, by its signature."""
    return Attended(query, key, value, attn_mask, is_causal, scale)
