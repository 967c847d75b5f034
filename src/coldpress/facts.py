"""What an artifact tells of its plan: predicted costs, the solver's answer, the energy's worth, other limits."""

from __future__ import annotations

from typing import Any

from coldpress.energy.correlation import Correlation
from coldpress.plan import Plan
from coldpress.planning import Planned, pareto
from coldpress.pricing import Prices, layer_rows
from coldpress.problem import Problem
from coldpress.recipe import Recipe
from coldpress.solvers import Answer
from coldpress.structures import Choices


def planned_facts(planned: Planned, prices: Prices, recipe: Recipe) -> dict[str, Any]:
    """What the artifact tells of the plan, as JSON-ready data."""
    answer, problem = planned.answer, planned.problem
    choice = problem.choice(planned.plan)
    costs = planned.costs
    quantity = next(iter(recipe.limits().given()), recipe.objective)
    sweep = pareto(problem, quantity, recipe.seed)
    # a latency limit is of the time measured, not of the prediction that was corrected near the plan
    whole = prices.seconds if quantity == "latency" and prices.seconds else problem.originals[quantity]
    return {
        "plan_json": planned.plan.to_json(),
        "predicted": {
            "latency_ms": costs["latency"] * 1e3 if "latency" in costs else None,
            "latency_fraction": costs["latency"] / prices.seconds if "latency" in costs and prices.seconds else None,
            "size": costs["size"],
            "macs": costs["macs"],
            "kl": problem.energy_of(choice),
            "measured_kl": planned.kl,
            "measured_kl_by_alpha": {f"{alpha:g}": kl for alpha, kl in planned.by_alpha.items()},
            "measured_latency_ms": planned.seconds * 1e3 if planned.seconds is not None else None,
        },
        "solver": {**answered(answer), "rounds": planned.rounds, "budget": recipe.limits().describe()},
        "trace": [list(moment) for moment in answer.trace],
        "refused": prices.refused(),
        "layers": layer_rows(problem.space, planned.plan.choices, prices),
        "pareto": [_sweep_row(problem, prices, quantity, limit / whole, plan, kl) for limit, plan, kl in sweep]
        + [_sweep_row(problem, prices, "chosen", 0.0, planned.plan.choices, problem.energy_of(choice))],
    }


def answered(answer: Answer) -> dict[str, Any]:
    """What a solver's answer tells of itself, as JSON-ready data."""
    return {
        "name": answer.solver,
        "energy": answer.energy,
        "lower_bound": answer.lower_bound,
        "gap": answer.gap,
        "seconds": answer.seconds,
        **answer.facts,
    }


def correlated(correlation: Correlation) -> dict[str, Any]:
    """Predicted and measured losses of random plans, as the report draws them."""
    return {
        "predicted": correlation.predicted,
        "measured": correlation.measured,
        "spearman": correlation.spearman,
        "spearman_separable": correlation.spearman_separable,
        "alpha": correlation.alpha,
    }


def _sweep_row(
    problem: Problem, prices: Prices, quantity: str, fraction: float, choices: Choices, energy: float
) -> dict[str, Any]:
    values = {name: cost.value(problem.choice(Plan(choices))) for name, cost in prices.costs().items()}
    return {
        "budget": f"{quantity} {fraction:.0%}" if quantity != "chosen" else "chosen",
        "latency_ms": values["latency"] * 1e3 if "latency" in values else None,
        "bytes": values["size"],
        "macs": values["macs"],
        "predicted_kl": energy,
        "accuracy": None,
        "chosen": quantity == "chosen",
    }
