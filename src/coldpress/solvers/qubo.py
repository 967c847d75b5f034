"""Any sampler as a solver: a QUBO with penalties, or a CQM, out; its reads decoded, checked and brought inside back.

What a sampler says is not believed: variables, values and energies of its model are computed again, and the energy of
the answer is the problem's own. No descent follows, which would hide how good the reads are.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dimod
import numpy as np
from numpy.typing import NDArray

from coldpress.errors import SamplerError
from coldpress.problem import Problem
from coldpress.qubo import variable
from coldpress.samplers import BlockDecomposer
from coldpress.samplers.asking import ask, called_with, checked
from coldpress.samplers.kinds import describe, is_far
from coldpress.solvers._answer import Answer, Progress
from coldpress.solvers._begin import begin, brought_inside
from coldpress.solvers._last import offer_smallest
from coldpress.solvers._state import Arrays, Ints

NUM_READS = 100
_BLOCK = 14  # variables of a block where the sampler's own limit is all that asks for blocks: time doubles with each
_TOLD = (
    "qubits", "longest_chain", "mean_chain", "embedding", "chain_strength", "chain_break_method",
    "chain_break_fraction", "problem_id", "estimated_qpu_ms", "qpu_access_ms", "run_ms", "charge_ms", "reads_file",
)  # fmt: skip


def solve(
    problem: Problem,
    *,
    sampler: Any,
    name: str | None = None,
    seed: int = 0,
    time_limit: float = 10.0,
    num_reads: int | None = None,
    penalty: float | None = None,
    max_variables: int | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Answer:
    """The best plan among the reads of a sampler, each brought inside the budget by single moves where it can be.

    Args:
        problem: what to solve.
        sampler: any `dimod.Sampler`, or an object with ``sample_cqm``, which is given the constraints as they are.
        name: what to call it; by default its class.
        seed: given to a sampler that takes one.
        time_limit: seconds, as far as the sampler can be told.
        num_reads: samples to ask for; by default 100, of samplers on this machine that take a time limit their own.
        penalty: see `coldpress.qubo.penalty_model`.
        max_variables: solve in blocks of at most so many (`BlockDecomposer`), each a call of its own. By default what
            a sampler on this machine says that it takes at most; what is paid for is never called more than once unless
            a number is given.
        parameters: further arguments of the sampler's own.

    Returns:
        The answer; ``solver`` says what kind of sampler it was, ``facts`` what became of the reads. Where no read could
        be brought inside, the plan is the smallest there is; ``solver`` says so, and also where only repair made a
        read a plan.

    Raises:
        BudgetError: no plan inside the budget was found, or as a QUBO the problem is too large.
        SamplerError: the sampler fails, or its answer is not of the model.
        HardwareError: a QPU or a service cannot be reached, is too small, or takes too long.
    """
    progress, arrays = begin(problem, time_limit)
    called = name or type(sampler).__name__
    if hasattr(sampler, "sample_cqm"):
        constrained = problem.to_cqm()
        facts: dict[str, Any] = {"variables": len(constrained.variables)}
        samples, kind = _ask_constrained(sampler, constrained, called, progress.left, parameters or {})
    else:
        model = problem.to_bqm(penalty)
        facts = {"variables": len(model.variables), "couplings": model.num_interactions}
        samples, kind = sample(
            model,
            sampler,
            name=called,
            seed=seed,
            time_limit=progress.left,
            num_reads=num_reads,
            max_variables=max_variables,
            parameters=parameters,
        )
    counts = _decode(progress, arrays, samples)
    label = f"{called} ({kind})"
    if progress.choice is None:
        offer_smallest(progress)
        label += "; no read could be brought inside the budget: the smallest plan"
    elif not counts.inside:
        label += "; no read was a plan inside the budget as it came: a repaired one"
    return progress.answer(label, {"sampler": kind, **facts, **counts.facts(), **told_of(samples)})


def sample(
    model: dimod.BinaryQuadraticModel,
    sampler: Any,
    *,
    name: str,
    seed: int = 0,
    time_limit: float = 10.0,
    num_reads: int | None = None,
    max_variables: int | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[dimod.SampleSet, str]:
    """Checked samples of a model, in blocks where it is too large, and what kind of sampler they are of.

    Args and raises are those of `solve`.
    """
    if not hasattr(sampler, "properties") or not hasattr(sampler, "parameters"):
        raise SamplerError(f"{name} is no sampler; give a dimod.Sampler, or the name of one")
    far, given = is_far(sampler), dict(parameters or {})
    if num_reads is None and (far or "time_limit" not in sampler.parameters):
        num_reads = NUM_READS  # one is the default of most; those that know of time do with it what they can
    most = max_variables
    if most is None and not far and len(model.variables) > sampler.properties.get("max_num_variables", np.inf):
        most = _BLOCK
    if most is not None and len(model.variables) > most:
        inner = {"num_reads": num_reads, "time_limit": max(time_limit, 1e-3)} if far else {"num_reads": num_reads}
        known = {key: value for key, value in inner.items() if key in sampler.parameters and value is not None}
        sampler, num_reads = BlockDecomposer(sampler, most), 1
        given = {"child_parameters": known | given}
    samples = ask(
        sampler,
        model,
        name=name,
        num_reads=num_reads,
        seed=seed,
        time_limit=max(time_limit, 1e-3),
        parameters=given,
    )
    return samples, describe(sampler)


@dataclass
class Counts:
    """What became of the reads: ``whole`` have one option for each unit, ``inside`` are in the budget as they came.

    ``energy`` is the least of those inside: what the sampler did by itself, without our repair.
    """

    reads: int = 0
    whole: int = 0
    inside: int = 0
    repaired: int = 0
    lost: int = 0
    energy: float | None = None

    def facts(self) -> dict[str, Any]:
        """The numbers under names that a report can show."""
        return {
            "energy_without_repair": self.energy,
            "reads": self.reads,
            "reads_with_one_option_each": self.whole,
            "reads_inside_the_budget": self.inside,
            "reads_repaired": self.repaired,
            "reads_lost": self.lost,
        }


def _decode(progress: Progress, arrays: Arrays, samples: dimod.SampleSet) -> Counts:
    """Offer every distinct read, those of least energy first."""
    problem = progress.problem
    names = [variable(problem, u, o) for u, size in enumerate(problem.sizes) for o in range(size)]
    place = {v: i for i, v in enumerate(samples.variables)}
    bits = samples.record.sample[:, [place[name] for name in names]] > 0
    weights = np.asarray(samples.record.num_occurrences, dtype=np.int64)
    counts, fates = Counts(), dict[bytes, str]()
    for row in np.argsort(samples.record.energy, kind="stable"):
        key = bits[row].tobytes()
        if key not in fates:
            fates[key] = _offer(progress, arrays, bits[row])
        counts.reads += int(weights[row])
        counts.whole += int(weights[row]) if _is_whole(problem, bits[row]) else 0
        setattr(counts, fates[key], getattr(counts, fates[key]) + int(weights[row]))
        if fates[key] == "inside":
            energy = problem.energy_of(nearest_choice(problem, bits[row]))
            counts.energy = energy if counts.energy is None else min(counts.energy, energy)
    return counts


def _offer(progress: Progress, arrays: Arrays, bits: NDArray[np.bool_]) -> str:
    """Offer one read; which of the counts it goes to."""
    choice = nearest_choice(progress.problem, bits)
    if _is_whole(progress.problem, bits) and progress.problem.feasible(choice):
        progress.offer(choice)
        return "inside"
    if not brought_inside(progress.problem, arrays, choice):
        return "lost"
    progress.offer(choice)
    return "repaired"


def _is_whole(problem: Problem, bits: NDArray[np.bool_]) -> bool:
    return bool((np.add.reduceat(bits.astype(np.int64), problem.offsets[:-1]) == 1).all())


def nearest_choice(problem: Problem, bits: NDArray[np.bool_]) -> Ints:
    """The options that a read takes; a unit with several takes that of them, with none any, of least energy.

    Args:
        problem: whose options the bits are.
        bits: ``(options,)``, unit after unit.

    Returns:
        Option indices, ``(units,)``; broken units are decided in order, after all whole ones.
    """
    energy, pairs = problem.energy, list(itertools.pairwise(int(o) for o in problem.offsets))
    alone = energy.linear + 0.5 * np.diag(energy.quadratic)
    choice = np.zeros(len(pairs), dtype=np.int64)
    taken = [np.flatnonzero(bits[a:b]) for a, b in pairs]
    whole = [u for u, options in enumerate(taken) if len(options) == 1]
    choice[whole] = [taken[u][0] for u in whole]
    field = alone + energy.quadratic[:, problem.offsets[whole] + choice[whole]].sum(axis=1)
    for u, options in enumerate(taken):
        if len(options) == 1:
            continue
        a, b = pairs[u]
        among = options if len(options) else np.arange(b - a)
        choice[u] = among[int(np.argmin(field[a + among]))]
        field = field + energy.quadratic[:, a + choice[u]]
    return choice


def _ask_constrained(
    sampler: Any, model: dimod.ConstrainedQuadraticModel, name: str, time_limit: float, parameters: Mapping[str, Any]
) -> tuple[dimod.SampleSet, str]:
    """Samples of a constrained model, checked, and their sampler's kind; constraints are left to the decoding."""
    known = getattr(sampler, "parameters", None) or {}
    given = ({"time_limit": time_limit} if "time_limit" in known else {}) | dict(parameters)
    samples = called_with(name, sampler.sample_cqm, model, given)
    objective = model.objective
    biases = [*objective.linear.values(), *objective.quadratic.values(), objective.offset]
    scale = float(np.abs(np.array(biases, dtype=np.float64)).sum())
    found = checked(
        samples,
        name,
        list(model.variables),
        dimod.BINARY,
        lambda own: (np.asarray(objective.energies(own), dtype=np.float64), scale),
    )
    return found, describe(sampler)


def told_of(samples: dimod.SampleSet) -> dict[str, Any]:
    """What the reads' info says of embedding, times and files, as single values; of blocks: sums, most or means."""
    info = samples.info
    blocks = [info, *info.get("children", [])]
    found: dict[str, Any] = {"blocks_solved": info["blocks"]} if "blocks" in info else {}
    found |= {key: info[key] for key in ("stopped",) if key in info}
    for key in _TOLD:
        values = [block[key] for block in blocks if key in block]
        numbers = [v for v in values if isinstance(v, int | float)]
        if numbers and key.endswith("_ms"):
            found[key] = float(sum(numbers))
        elif numbers and key in ("qubits", "longest_chain"):
            found[key] = max(numbers)
        elif numbers:
            found[key] = float(np.mean(numbers))
        elif values:
            found[key] = ", ".join(dict.fromkeys(map(str, values)))
    return found
