"""How much of each layer is masked, by the curvature of the loss in place of a search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from coldpress.energy.fisher import finite, summed_loss
from coldpress.network import evaluating, logits_of
from coldpress.papers.edge_masks import smallest
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.solvers import solve


def amounts_by_curvature(
    model: nn.Module,
    layers: Sequence[str],
    inputs: Sequence[Tensor],
    choices: Sequence[float],
    sparsity: float,
    *,
    seed: int = 0,
    time_limit: float = 10.0,
) -> dict[str, float]:
    """The fraction of each layer's smallest weights that goes, at the least expected loss.

    That is half of the change's quadratic form in the Fisher information, with what layers do to each other: for masks
    d of all layers, the mean over samples of (g . d)^2 / 2, where g is a sample's gradient for a label drawn by the
    model's own probabilities.

    Args:
        model: the network; it is not changed.
        layers: names of modules with a weight.
        inputs: calibration inputs, each ``(samples, ...)``; one backward pass a sample.
        choices: fractions, one of which each layer gets.
        sparsity: zeros in all, as a share of the model's parameters, at least.
        seed: of the labels and the solver.
        time_limit: of the solver, in seconds.

    Returns:
        The fractions by layer.

    Raises:
        TaskError: outputs or gradients are not finite.
        BudgetError: no choice reaches the sparsity.
    """
    weights = [model.get_submodule(name).get_parameter("weight") for name in layers]
    gone = [[smallest(weight.detach(), amount) for amount in choices] for weight in weights]
    effects = torch.zeros(len(inputs[0]), len(layers), len(choices), dtype=torch.float64)
    with evaluating(model), torch.enable_grad():
        for i in range(len(effects)):
            logits = logits_of(model(*(tensor[i : i + 1] for tensor in inputs)))
            gradients = torch.autograd.grad(summed_loss(logits, None, seed + i), weights)
            for layer, (gradient, weight) in enumerate(zip(gradients, weights)):
                change = (gradient * weight.detach()).flatten()
                effects[i, layer] = torch.stack([change[rows].double().sum() for rows in gone[layer]])
    rows: NDArray[np.float64] = finite(effects).flatten(1).numpy()
    sizes = [len(choices)] * len(layers)
    left = [weight.numel() - np.array([len(found) for found in rows_of]) for weight, rows_of in zip(weights, gone)]
    weight_count = sum(weight.numel() for weight in weights)
    most = weight_count - sparsity * sum(p.numel() for p in model.parameters())
    size = Cost("size", tuple(Factor((layer,), count.astype(float)) for layer, count in enumerate(left)))
    energy = Energy(rows.T @ rows / len(rows), np.zeros(rows.shape[1]))
    problem = Problem.from_arrays(sizes, energy, {"size": size}, {"size": float(most)})
    chosen = solve(problem, time_limit=time_limit, seed=seed).choice
    return {name: choices[int(option)] for name, option in zip(layers, chosen)}
