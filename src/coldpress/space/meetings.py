"""Which layers exchange activations: one reads what the other wrote, or both are added up."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from coldpress.surgery.events import ADDITIONS, record


def meetings(model: nn.Module, example_inputs: Sequence[Tensor], layers: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of layers whose activations meet, first the one that runs first, in the order in which they meet.

    Norms, activations, pooling and reshapes between the two do not count; of a sum, the layer that ran last stands for
    all that was added up.

    Args:
        model: the network.
        example_inputs: its inputs, each ``(batch, ...)``.
        layers: names of the layers.

    Returns:
        Pairs of indices into ``layers``.
    """
    index = {name: i for i, name in enumerate(layers)}
    writers: list[frozenset[int]] = []
    found: dict[tuple[int, int], None] = {}
    for event in record(model, example_inputs):
        sources = [writers[source] for source in event.inputs if source is not None]
        if event.name in index:
            here = index[event.name]
            for source in sources:
                found.update({(min(i, here), max(i, here)): None for i in sorted(source) if i != here})
            writers.append(frozenset({here}))
            continue
        if event.name in ADDITIONS and len(sources) == 2:
            newest = sorted({max(source) for source in sources if source})
            if len(newest) == 2:
                found[newest[0], newest[1]] = None
            writers.append(frozenset(newest[-1:]))
        else:
            writers.append(frozenset().union(*sources))
    return tuple(found)
