"""QIANets on three networks: the public code's steps, the same corrected, and our own plan within the same budget.

Every row is trained for as many epochs, beside a control: the baseline trained on as the row is. Most are trained on
labels by one recipe; what the search found by its own rate and batch; ours by distillation from the baseline. Both
sides of every row are exported, and timed in turns. See `qianets_case` for one network's rows and `qianets_steps` for
the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coldpress import splits, zoo
from coldpress.data import TensorData
from coldpress.errors import TaskError
from coldpress.papers.qianets_case import Case
from coldpress.papers.qianets_table import HELD_OUT, METHODS, PUBLISHED, Row, Scale


class QIANets:
    """The experiment.

    Args:
        data: images of one size, train and test at least.
        scale: how much is done.
        networks: of torchvision, among `PUBLISHED`.
        folder: where baselines and searches are kept, for a run that goes on.
        known: rows of an earlier run.
        tell: called with (what, done, in all).
    """

    def __init__(
        self,
        data: zoo.Splits,
        scale: Scale,
        networks: Sequence[str],
        folder: Path,
        known: Sequence[Row] = (),
        tell: Callable[[str, int, int], None] | None = None,
    ) -> None:
        unknown = [name for name in networks if name not in PUBLISHED]
        if unknown:
            raise TaskError(f"{unknown[0]!r} is none of the networks of QIANets: {', '.join(PUBLISHED)}")
        if not isinstance(data.train, TensorData) or not isinstance(data.test, TensorData):
            raise TaskError("QIANets needs images with train and test data: --data cifar10 or cifar10-jpeg, say")
        self.scale, self.networks, self.folder, self.tell = scale, tuple(dict.fromkeys(networks)), folder, tell
        self.data = data
        self._known = {row.name: row for row in known}

    def stages(self) -> Iterator[Row]:
        """All rows, network by network and seed by seed."""
        wanted = [(name, seed) for name in self.networks for seed in self.scale.seeds]
        for done, (name, seed) in enumerate(wanted):
            case: Case | None = None
            for method in METHODS:
                row = self._known.get((name, method, seed))
                if row is None:
                    case = case or self._case(name, seed)
                    row = case.row(method)
                yield row
            self.say("networks", done + 1, len(wanted))

    def _case(self, name: str, seed: int) -> Case:
        return Case(name, seed, self.splits(seed), self.scale, self.folder / f"{name}-{seed}", self.say)

    def splits(self, seed: int) -> zoo.Splits:
        """The data of a seed at this scale; a fifth of the training images is held out, as theirs."""
        whole, test = self.data.train, _sized(self.data.test, self.scale.pixels)
        if isinstance(self.data.validation, TensorData):
            whole = whole.joined(self.data.validation)
        if self.scale.images is not None:
            whole = splits.some(whole, self.scale.images, seed)
        train, validation = splits.split(_sized(whole, self.scale.pixels), seed, wanted=round(HELD_OUT * len(whole)))
        return zoo.Splits(train, validation, test)

    def say(self, what: str, done: int, total: int) -> None:
        """Tell how far it is."""
        if self.tell:
            self.tell(what, done, total)


def _sized(data: Any, pixels: int) -> Any:
    """Images of so many pixels a side, each value in [-1, 1], as the paper has them."""
    if not isinstance(data, TensorData):
        return data
    channels = data.inputs.shape[1]
    return replace(data, size=pixels, mean=(0.5,) * channels, std=(0.5,) * channels)
