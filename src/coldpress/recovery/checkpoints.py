"""Checkpoints of a training run: a weights file an epoch, and one file of state that commits the epoch."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from coldpress.errors import CheckpointError
from coldpress.files import beside, write_tensors

logger = logging.getLogger("coldpress.recovery")

Weights = dict[str, Tensor]


class Checkpoints:
    """The files of one run in a folder; with no folder, the weights stay in memory and nothing can be resumed.

    Weights of an epoch are written first and the state that names the epoch last, each beside and then renamed, so
    a stop at any moment leaves the last whole epoch usable.

    Args:
        folder: made when missing; None keeps everything in memory.
        key: identifies the run (settings, data, initial weights); state under another key is not resumed.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.folder = folder
        self.key = key
        self._memory: dict[int, Weights] = {}
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob("*.part"):  # of a run that was killed while it wrote
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(f"the checkpoint folder {folder} cannot be used ({error}); choose another") from error

    def resume(self) -> dict[str, Any] | None:
        """The state of the last whole epoch of this run, or None to start anew."""
        path = self.folder / "state.pt" if self.folder is not None else None
        if path is None or not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            epochs = (int(state["epoch"]), int(state["best"]))
            same = state["key"] == self.key
        except (RuntimeError, OSError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
            logger.warning("the training state %s is damaged (%s); training starts anew", path, error)
            return None
        if not same:
            logger.warning("%s is of another training (other settings, data or weights); training starts anew", path)
            return None
        if any(self._read(epoch) is None for epoch in epochs):
            logger.warning("weights beside %s are missing or damaged; training starts anew", path)
            return None
        return state

    def save(self, epoch: int, best: int, weights: Weights, state: dict[str, Any]) -> None:
        """Keep the weights of ``epoch`` and the state; of earlier weights only those of ``best`` stay.

        Raises:
            CheckpointError: the files cannot be written; those of the last save are untouched.
        """
        weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
        if self.folder is not None:
            self._commit(epoch, best, weights, state)
        self._memory[epoch] = weights
        self._memory = {e: w for e, w in self._memory.items() if e in (epoch, best)}

    def _commit(self, epoch: int, best: int, weights: Weights, state: dict[str, Any]) -> None:
        assert self.folder is not None
        target = self._path(epoch)
        whole = {**state, "epoch": epoch, "best": best, "key": self.key}
        with _explained(target):
            write_tensors(target, weights)
        with _explained(self.folder / "state.pt"), beside(self.folder / "state.pt") as place:
            torch.save(whole, place)
        for path in self.folder.glob("epoch-*.safetensors"):
            if path not in (target, self._path(best)):
                path.unlink(missing_ok=True)

    def keep(self, weights: dict[int, Weights]) -> None:
        """Have weights of epochs in memory, as a process does that has no folder."""
        self._memory |= weights

    def weights(self, epoch: int) -> Weights:
        """The weights kept for ``epoch``."""
        found = self._read(epoch)
        if found is None:
            raise KeyError(epoch)
        return found

    def _path(self, epoch: int) -> Path:
        assert self.folder is not None
        return self.folder / f"epoch-{epoch:03d}.safetensors"

    def _read(self, epoch: int) -> Weights | None:
        if epoch in self._memory or self.folder is None:
            return self._memory.get(epoch)
        try:
            return load_file(str(self._path(epoch)))
        except (OSError, SafetensorError):
            return None


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint {target} cannot be written ({error}); free some space or choose another folder, "
            "then run the same again: it goes on from the last whole epoch"
        ) from error
