"""A table of embeddings in which rare tokens share a common one's row: fewer rows, and the same tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coldpress.network import replace_module

CHUNK = 1024


class SharedRows(nn.Module):
    """A table of embeddings behind a list that says which row each token reads.

    Args:
        rows: of every token its row in ``table``, ``(tokens,)``.
        table: an ``nn.Embedding``, or one that was factorised.

    Attributes:
        rows: the buffer, int32.
    """

    rows: Tensor

    def __init__(self, rows: Tensor, table: nn.Module) -> None:
        super().__init__()
        self.register_buffer("rows", rows.to(torch.int32))
        self.table = table

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings ``(..., features)`` of tokens ``(...)``."""
        embedded: Tensor = self.table(self.rows[ids])
        return embedded


def nearest_rows(table: Tensor, kept: Tensor) -> Tensor:
    """Of every row of a table the one that stays and points most nearly its way, as its position among these.

    The direction tells (cosine), not the distance: short rows, such as that of a token that training never showed, are
    near to all others. Rows of zeros, which fill texts up, are nobody's nearest.

    Args:
        table: ``(rows, features)``.
        kept: indices of the rows that stay, ascending.

    Returns:
        ``(rows,)`` int64; rows that stay are their own.
    """
    found = torch.empty(len(table), dtype=torch.int64)
    found[kept] = torch.arange(len(kept))
    lost = torch.ones(len(table), dtype=torch.bool)
    lost[kept] = False
    lengths = table.float().norm(dim=1, keepdim=True)
    stay, empty = table[kept].float() / lengths[kept].clamp_min(1e-12), lengths[kept, 0] == 0
    for part in torch.split(lost.nonzero()[:, 0], CHUNK):
        alike = (table[part].float() @ stay.T).masked_fill(empty, -torch.inf)
        found[part] = alike.argmax(dim=1)
    return found


def share_rows(model: nn.Module, name: str, kept: Sequence[int]) -> None:
    """Leave a table of a model, in place, these rows only; all other tokens read the nearest of them."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.Embedding)
    stay = torch.as_tensor(kept, dtype=torch.int64)
    weight = module.weight.detach()
    rows = nearest_rows(weight, stay)
    padding = None if module.padding_idx is None else int(rows[module.padding_idx])
    table = nn.Embedding(len(stay), weight.shape[1], padding, _weight=weight[stay].clone()).train(module.training)
    table.weight.requires_grad_(module.weight.requires_grad)
    replace_module(model, name, SharedRows(rows, table).train(module.training))
