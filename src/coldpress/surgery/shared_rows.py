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
    """Of every row of a table the nearest one that stays (Euclidean distance), as its position among these.

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
    stay = table[kept].float()
    half = stay.square().sum(dim=1) / 2
    for part in torch.split(lost.nonzero()[:, 0], CHUNK):
        found[part] = (table[part].float() @ stay.T - half).argmax(dim=1)
    return found


def share_rows(model: nn.Module, name: str, kept: Sequence[int]) -> None:
    """Leave a table of a model, in place, these rows only; all other tokens read the nearest of them."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.Embedding)
    stay = torch.as_tensor(kept, dtype=torch.int64)
    weight = module.weight.detach()
    table = nn.Embedding(len(stay), weight.shape[1], _weight=weight[stay].clone()).train(module.training)
    replace_module(model, name, SharedRows(nearest_rows(weight, stay), table).train(module.training))
