"""Which tokens the training data uses, and so which rows of a table of embeddings go first."""

from __future__ import annotations

import torch
from torch import Tensor

from coldpress.space.vocabularies import tables_of_inputs
from coldpress.task import Task

BATCH = 256


def rarest_first(task: Task, table: str) -> list[int]:
    """The rows of a table, rarest first: by how often training data holds the token, then those of higher number.

    Tokenizers number what is common first. The special tokens of the task's tokenizer, and what fills texts up, go
    last.

    Args:
        task: its train data is counted (where there is none, the samples for calibration are).
        table: name of the table, which an input of the model reads.
    """
    module = task.model.get_submodule(table)
    number = tables_of_inputs(task.model, task.example_inputs, [table])[table]
    seen = torch.zeros(len(module.get_parameter("weight")), dtype=torch.int64)
    if task.train is None:
        _count(seen, task.calibration()[0][number])
    else:
        for inputs, _ in task.batches("train", BATCH):
            _count(seen, inputs[number])
    always = [*getattr(task.tokenizer, "all_special_ids", ()), getattr(module, "padding_idx", None)]
    for token in always:
        if token is not None and 0 <= token < len(seen):
            seen[token] = torch.iinfo(torch.int64).max
    numbers = torch.arange(len(seen)).flip(0)
    found: list[int] = numbers[seen[numbers].argsort(stable=True)].tolist()
    return found


def _count(seen: Tensor, ids: Tensor) -> None:
    known = ids[(ids >= 0) & (ids < len(seen))]  # others the model puts right, or leaves out
    seen += torch.bincount(known, minlength=len(seen))
