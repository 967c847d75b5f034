"""What every step of a run is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coldpress.evidence import Progress
from coldpress.recipe import Recipe
from coldpress.task import Task
from coldpress.workspace import Workspace


@dataclass(frozen=True)
class Run:
    """A task, what is asked for, where finished steps are kept, and who is told of their progress.

    Attributes:
        task: the model and its data.
        recipe: what was asked for.
        work: keeps the steps.
        tell: called with (step, done, in all).
    """

    task: Task
    recipe: Recipe
    work: Workspace
    tell: Progress | None = None

    def telling(self, step: str) -> Callable[[int, int], None] | None:
        """The progress of one step: called with (done, in all)."""
        tell = self.tell
        return (lambda done, total: tell(step, done, total)) if tell else None
