"""Simulated bifurcation, ballistic and discrete, batched in torch (Goto et al. 2019 and 2021)."""

from __future__ import annotations

from typing import Any, ClassVar

import dimod
import numpy as np
import torch
from numpy.typing import NDArray

from coldpress.errors import SamplerError
from coldpress.samplers._arguments import Clock, clock, listed, one_of, real, sequence, whole
from coldpress.samplers._model import Model, empty_set, read, sample_set

METHOD = "simulated bifurcation, classical and quantum-inspired"
MODES = ("ballistic", "discrete")
_SPARSE = 0.02  # share of couplings below which they are kept sparse
_READOUT = 10  # steps between looks at the signs


class SimulatedBifurcationSampler(dimod.Sampler):
    """Integrates classical oscillators that bifurcate to -1 or 1 as a pump rises; the signs are the spins.

    All reads are columns of one matrix, so a step is one product with the couplings, on a CPU or a GPU. With positions
    x, momenta y, pump a from 0 to 1 and walls at -1 and 1 (y = 0 there), a step of symplectic Euler is
    ``y += dt ((a - 1) x + c0 J f(x)); x += dt y`` with ``f(x) = x`` (ballistic) or ``sign(x)`` (discrete), and
    ``c0 = 0.5 / (sqrt(n) rms(J))``. Fields couple to one more oscillator, whose sign divides all others. Each read
    gives the best signs seen, looked at every ten steps.

    Source: H. Goto, K. Endo, M. Suzuki et al., "High-performance combinatorial optimization based on classical
    mechanics", Science Advances 7, eabe7953, 2021; H. Goto, K. Tatsumura, A. R. Dixon, "Combinatorial optimization by
    simulating adiabatic bifurcations in nonlinear Hamiltonian systems", Science Advances 5, eaav2372, 2019.

    Example:
        >>> import dimod
        >>> bqm = dimod.BinaryQuadraticModel({"a": 1}, {("a", "b"): -2, ("b", "c"): 1}, 0.0, "SPIN")
        >>> float(SimulatedBifurcationSampler().sample(bqm, num_reads=8, seed=0).first.energy)
        -4.0
    """

    parameters: ClassVar[dict[str, list[str]]] = listed(
        "num_reads", "num_steps", "mode", "time_step", "seed", "time_limit", "device"
    )
    properties: ClassVar[dict[str, Any]] = {"method": METHOD, "modes": list(MODES)}

    def sample(
        self,
        bqm: Any,
        *,
        num_reads: int = 32,
        num_steps: int = 1000,
        mode: str = "discrete",
        time_step: float | None = None,
        seed: int | None = None,
        time_limit: float | None = None,
        device: str | torch.device = "cpu",
        **kwargs: Any,
    ) -> dimod.SampleSet:
        """The best signs of each of ``num_reads`` trajectories.

        Args:
            bqm: any `dimod.BinaryQuadraticModel`.
            num_reads: trajectories, all at once.
            num_steps: steps while the pump rises.
            mode: "ballistic" (faster to something good) or "discrete" (better in the end).
            time_step: dt; by default 0.5 (ballistic) or 1 (discrete).
            seed: same seed and device, same samples, where no time limit cuts; by default a new one.
            time_limit: seconds, after which the trajectories are read as they are; by default none.
            device: any of torch.
            **kwargs: of other samplers; ignored with a warning.

        Returns:
            One sample a read, with ``info``: method, seconds, steps, mode, device, improvements (the seconds when reads
            came to their best signs, and their energies, of those that were lower than all before).

        Raises:
            SamplerError: a bias is not a finite number, an argument is out of its range, or the device is not there.
        """
        self.remove_unknown_kwargs(**kwargs)
        time, seeds = clock(time_limit), sequence(seed)
        reads, steps = whole("num_reads", num_reads, 1), whole("num_steps", num_steps, 1)
        discrete = one_of("mode", mode, MODES) == "discrete"
        dt = (1.0 if discrete else 0.5) if time_step is None else real("time_step", time_step, above=0.0)
        model, place = read(bqm), _place(device)
        if len(model) == 0:
            return empty_set(bqm, method=METHOD, seconds=time.seconds)
        couplings = model.kept(_couplings).to(place)
        random = torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        start = torch.rand((2, len(couplings), reads), generator=random) - 0.5
        signs, met, made = _integrate(couplings, start.to(place), steps, dt, discrete, time)
        bits = (signs[:-1] * signs[-1] > 0).T.cpu().numpy()
        found = sample_set(bqm, model, bits, method=METHOD, steps=made, mode=mode, device=str(place))
        found.info.update(seconds=time.seconds, improvements=_improvements(met, found.record.energy))
        return found


def _improvements(met: list[float], energies: NDArray[Any]) -> list[tuple[float, float]]:
    """The reads that were best so far when they came to their best: the seconds, and their energies."""
    found, least = list[tuple[float, float]](), np.inf
    for seconds, energy in sorted(zip(met, energies.tolist())):
        if energy < least:
            found.append((seconds, least := energy))
    return found


def _place(device: Any) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise SamplerError(f"device {device!r} cannot be used ({error}); give 'cpu', or one that torch sees") from error
    return place


def _couplings(model: Model) -> torch.Tensor:
    """The forces' matrix c0 J (n + 1, n + 1), the energy being -s J s / 2; the last row and column hold the fields."""
    model, n = model.as_spin(), len(model)
    heads, tails = np.append(model.heads, np.arange(n)), np.append(model.tails, np.full(n, n))
    weights = np.append(model.weights, model.linear)
    largest = float(np.abs(weights).max())
    weights = weights / (largest or 1.0)  # so that squares neither over- nor underflow
    size = float(np.sqrt(2.0 * (weights @ weights) / (n * (n + 1)))) or 1.0
    places = torch.from_numpy(np.stack([np.append(heads, tails), np.append(tails, heads)]))
    values = torch.from_numpy(np.tile(-0.5 / (np.sqrt(n + 1) * size) * weights, 2)).float()
    matrix = torch.sparse_coo_tensor(places, values, (n + 1, n + 1), check_invariants=False).coalesce()
    return matrix if model.density < _SPARSE else matrix.to_dense()


def _integrate(
    couplings: torch.Tensor, start: torch.Tensor, steps: int, dt: float, discrete: bool, time: Clock
) -> tuple[torch.Tensor, list[float], int]:
    """The best signs (n + 1, reads) of each trajectory, the seconds when it met them, and the steps made.

    ``start`` is positions and momenta.
    """
    x, y = start.unbind()
    best = _signs(x)
    lowest, met = torch.full_like(x[0], torch.inf), torch.zeros_like(x[0], dtype=torch.float64)
    for step in range(1, steps + 1):
        y += dt * ((step / steps - 1.0) * x + couplings @ (_signs(x) if discrete else x))
        x += dt * y
        y[x.abs() > 1.0] = 0.0
        x.clamp_(-1.0, 1.0)
        last = step == steps or time.over
        if last or step % _READOUT == 0:
            signs = _signs(x)
            energy = -(signs * (couplings @ signs)).sum(dim=0)
            better = energy < lowest
            lowest = torch.where(better, energy, lowest)
            best = torch.where(better, signs, best)
            met = torch.where(better, time.seconds, met)
        if last:
            return best, met.tolist(), step
    raise AssertionError("unreachable")


def _signs(x: torch.Tensor) -> torch.Tensor:
    """-1 or 1, never 0."""
    return torch.where(x < 0.0, -1.0, 1.0)
