from itertools import product

import numpy as np
import pytest
from models import random_model
from scipy.linalg import expm

from coldpress.errors import SamplerError
from coldpress.samplers import QAOASampler
from coldpress.samplers._model import read
from coldpress.samplers._statevector import Circuit, all_energies

X, Z = np.array([[0, 1], [1, 0]]), np.diag([1, -1])


@pytest.fixture
def circuit():
    rng = np.random.default_rng(0)
    return Circuit(rng.normal(size=64), rng.uniform(0.3, 2.8, 6))


def on_qubit(matrix, i, n):
    return np.kron(np.kron(np.eye(2 ** (n - 1 - i)), matrix), np.eye(2**i))


def test_all_energies_are_those_of_the_model():
    model = random_model(7, 0)
    states = np.array([[code >> i & 1 for i in range(7)] for code in range(128)])
    np.testing.assert_allclose(all_energies(read(model)), model.energies((states, list(model.variables))))


def test_layers_are_the_exponentials_of_mixer_and_cost(circuit):
    mixer = -sum(on_qubit(np.sin(t) * X + np.cos(t) * Z, i, 6) for i, t in enumerate(circuit.tilts))
    angles = np.array([[0.4, -0.3], [0.2, 0.9]])
    state = circuit.start()
    assert np.vdot(state, mixer @ state) == pytest.approx(-6.0)
    for gamma, beta in angles.T:
        state = expm(-1j * beta * mixer) @ (np.exp(-1j * gamma * circuit.phases) * state)
    np.testing.assert_allclose(circuit.run(angles), state, atol=1e-12)


def test_the_gradient_is_that_of_the_value(circuit):
    angles = np.random.default_rng(1).normal(size=(2, 3))
    value, gradient = circuit.value_and_gradient(angles)
    assert value == pytest.approx(circuit.value(circuit.run(angles)))
    for at in product(range(2), range(3)):
        step = np.zeros((2, 3))
        step[at] = 1e-6
        ahead, behind = (circuit.value(circuit.run(angles + s)) for s in (step, -step))
        assert gradient[at] == pytest.approx((ahead - behind) / 2e-6, abs=1e-7)


@pytest.mark.parametrize("optimizer", ["L-BFGS-B", "COBYLA"])
def test_optimised_angles_beat_the_first_ones_and_chance(optimizer):
    model = random_model(8, 1, "SPIN")
    first, best = (QAOASampler().sample(model, optimizer=optimizer, max_iterations=m, seed=0).info for m in (0, 60))
    assert best["expectation"] < first["expectation"] < model.offset
    assert best["ground_probability"] > 4 / 256


def test_more_layers_are_better():
    model = random_model(8, 2)
    means = [QAOASampler().sample(model, num_layers=p, seed=0).info["expectation"] for p in (1, 5)]
    assert means[1] < means[0]


def test_angles_of_another_instance_are_taken_and_told():
    angles = QAOASampler().sample(random_model(6, 3, "SPIN"), num_layers=2, seed=0).info["parameters"]
    model = random_model(9, 4, "SPIN", scale=100.0)
    found = QAOASampler().sample(model, parameters=angles, max_iterations=0, seed=0)
    assert found.info["parameters"] == angles
    assert found.info["evaluations"] == 0
    assert found.info["expectation"] < model.offset - 100.0


def test_samples_follow_the_final_state():
    model = random_model(6, 5)
    found = QAOASampler().sample(model, num_reads=4000, seed=0)
    assert found.record.energy.mean() == pytest.approx(found.info["expectation"], abs=0.1)


def test_a_good_warm_start_raises_the_chance_of_the_ground_state():
    model = random_model(8, 6)
    ground = QAOASampler().sample(model, num_layers=6, num_reads=1000, seed=0).first.sample
    cold, warm = (
        QAOASampler().sample(model, num_layers=1, warm_start=w, seed=0).info["ground_probability"]
        for w in (None, dict(ground))
    )
    assert warm > 2 * cold
    relaxed = QAOASampler().sample(model, num_layers=1, warm_start="relaxation", seed=0)
    assert relaxed.info["ground_probability"] > cold


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"parameters": [1.0, 2.0]}, r"\(2, p\)"),
        ({"parameters": [["a"], ["b"]]}, "numbers"),
        ({"parameters": [[1.0], [float("nan")]]}, "finite"),
        ({"parameters": [[1.0], [1.0]], "num_layers": 2}, "leave one"),
        ({"num_layers": 0}, "num_layers"),
        ({"optimizer": "luck"}, "'COBYLA'"),
        ({"max_iterations": -1}, "max_iterations"),
        ({"warm_start": "hot"}, "'relaxation'"),
        ({"warm_start": {0: 0.5}}, "no value for 'v1'"),
        ({"warm_start": {0: 0.5, "v1": 2.0, ("w", 2): 0.5}}, "0 to 1"),
        ({"warm_start": 3}, "'relaxation'"),
        ({"epsilon": 0.6}, "epsilon"),
        ({"epsilon": 0.0}, "epsilon"),
    ],
)
def test_what_does_not_fit_is_named(given, message):
    with pytest.raises(SamplerError, match=message):
        QAOASampler().sample(random_model(3, 0), **given)


def test_more_than_twenty_variables_are_refused_with_the_way_out():
    with pytest.raises(SamplerError, match=r"at most 20 .* has 21; .*BlockDecomposer\(QAOASampler\(\), 20\)"):
        QAOASampler().sample(random_model(21, 0, density=0.0))
