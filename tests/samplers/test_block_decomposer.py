import dimod
import numpy as np
import pytest
from models import least_energy, random_model

from coldpress.errors import HardwareError, SamplerError
from coldpress.samplers import BlockDecomposer, ExhaustiveSampler, QAOASampler
from coldpress.samplers._blocks import cut, fiedler_order, impact_order
from coldpress.samplers._model import read
from coldpress.samplers.block_decomposer import _Frozen


class Recorder(dimod.Sampler):
    """Solves exactly, and keeps what it was asked."""

    parameters = properties = None

    def __init__(self):
        self.parameters, self.properties, self.models = {"seed": []}, {}, []

    def sample(self, bqm, seed=None):
        self.models.append(bqm)
        return dimod.ExactSolver().sample(bqm)


class Worst(dimod.Sampler):
    """Gives the highest state."""

    parameters = properties = None

    def __init__(self):
        self.parameters, self.properties = {}, {}

    def sample(self, bqm):
        states = dimod.ExactSolver().sample(bqm)
        return states.slice(-1, None)


class Says(dimod.Sampler):
    """Gives what a function makes of the model; counts its calls."""

    parameters = properties = None

    def __init__(self, function):
        self.parameters, self.properties, self.function, self.calls = {}, {}, function, 0

    def sample(self, bqm):
        self.calls += 1
        return self.function(bqm, self.calls)


def set_of(bqm, value, vartype, labels=None):
    values = dict.fromkeys(labels or bqm.variables, value)
    return dimod.SampleSet.from_samples([values], vartype, energy=[0.0])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda bqm, call: set_of(bqm, 1, "SPIN", labels=["other"]), "other variables"),
        (lambda bqm, call: None, "NoneType in place of"),
        (lambda bqm, call: set_of(bqm, -5, "INTEGER"), "values other than"),
        (lambda bqm, call: set_of(bqm, 1, "SPIN"), "read 0 has energy 0"),
        (lambda bqm, call: {}["missing"], "KeyError"),
    ],
)
def test_a_wrong_answer_of_the_sampler_is_refused(function, message):
    with pytest.raises(SamplerError, match=f"Says .*{message}"):
        BlockDecomposer(Says(function), 3).sample(random_model(6, 0, "SPIN"), seed=0)


def test_an_answer_in_other_values_is_converted():
    child = Says(lambda bqm, call: dimod.ExactSolver().sample(bqm).change_vartype("BINARY", inplace=False))
    model = random_model(6, 0, "SPIN")
    found = BlockDecomposer(child, 6).sample(model, seed=0)
    assert found.first.energy == pytest.approx(least_energy(model))


def test_what_was_solved_before_hardware_failed_is_kept(caplog):
    def fail(bqm, call):
        if call == 3:
            raise HardwareError("time is up")
        return dimod.ExactSolver().sample(bqm)

    model = random_model(20, 1)
    found = BlockDecomposer(Says(fail), 5).sample(model, num_reads=2, seed=0)
    assert (found.info["stopped"], found.info["blocks"], len(found)) == ("time is up", 2, 1)
    (trace,) = found.info["traces"]
    assert found.first.energy == pytest.approx(trace[-1])
    assert trace[-1] < trace[0]
    assert "whose gains are kept: time is up" in caplog.text


def test_hardware_that_fails_at_once_is_told():
    def fail(bqm, call):
        raise HardwareError("no network")

    with pytest.raises(HardwareError, match="no network"):
        BlockDecomposer(Says(fail), 5).sample(random_model(8, 1), seed=0)


def test_a_block_without_reads_changes_nothing():
    child = Says(lambda bqm, call: dimod.SampleSet.from_samples(np.zeros((0, len(bqm.variables))), "SPIN", energy=[]))
    found = BlockDecomposer(child, 3).sample(random_model(6, 0, "SPIN"), seed=0)
    assert len(found) == 1


@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
@pytest.mark.parametrize("order", ["impact", "spectral"])
def test_energy_never_rises_from_sweep_to_sweep(vartype, order):
    model = random_model(30, 0, vartype, density=0.3)
    found = BlockDecomposer(ExhaustiveSampler(), 7).sample(model, num_reads=4, order=order, seed=0)
    for trace, energy in zip(found.info["traces"], found.record.energy, strict=True):
        assert (np.diff(trace) <= 0).all()
        assert trace[-1] == pytest.approx(energy)
        assert trace[-1] < trace[0]


@pytest.mark.parametrize("order", ["impact", "spectral"])
def test_no_block_is_larger_than_the_limit_and_all_variables_are_solved(order):
    model, child = random_model(20, 1, density=0.4), Recorder()
    BlockDecomposer(child, 6).sample(model, order=order, max_sweeps=1, seed=0)
    assert max(len(block) for block in child.models) <= 6
    assert {v for block in child.models for v in block.variables} == set(model.variables)


def test_a_restricted_model_has_the_energies_of_the_whole():
    model = random_model(9, 2, "SPIN")
    state = _Frozen(read(model))
    state.begin(np.arange(9) % 2)
    whole = dict(zip(model.variables, state.values))
    block = np.array([1, 4, 8])
    restricted = state.restricted(block)
    for sample, energy in dimod.ExactSolver().sample(restricted).data(["sample", "energy"]):
        assert energy == pytest.approx(model.energy(whole | dict(sample)))


def test_a_block_of_everything_is_the_sampler_itself():
    model = random_model(10, 3)
    found = BlockDecomposer(ExhaustiveSampler(), 10).sample(model, seed=0)
    assert found.first.energy == pytest.approx(least_energy(model))


def test_a_sampler_that_only_gets_worse_changes_nothing():
    model = random_model(8, 4)
    ground = dimod.ExactSolver().sample(model).first.sample
    found = BlockDecomposer(Worst(), 3).sample(model, initial_states=ground, seed=0)
    assert found.first.sample == ground


def test_more_variables_than_a_state_vector_holds_are_solved_by_qaoa():
    model = random_model(24, 5, density=0.2)
    blocks = BlockDecomposer(QAOASampler(), 8)
    found = blocks.sample(model, seed=0, child_parameters={"num_layers": 1, "max_iterations": 5})
    assert found.first.energy == pytest.approx(least_energy_of(model), abs=1.0)
    assert "QAOASampler" in found.info["method"]


def least_energy_of(model):
    return ExhaustiveSampler().sample(model).first.energy


def test_the_fiedler_order_goes_along_a_chain_and_keeps_parts_together():
    rng = np.random.default_rng(0)
    labels = rng.permutation(12)
    chain = dimod.BinaryQuadraticModel(dict.fromkeys(range(12), 0.0), {}, 0.0, "SPIN")
    for i in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10):
        chain.add_quadratic(int(labels[i]), int(labels[i + 1]), -1.0)
    place = np.argsort(labels)[fiedler_order(read(chain).sparse(), 0)]
    assert sorted(place) == list(range(12))
    assert (np.abs(np.diff(place[:6])) == 1).all()
    assert (np.abs(np.diff(place[6:])) == 1).all()


def test_the_fiedler_order_of_many_variables_goes_along_their_chain():
    chain = dimod.BinaryQuadraticModel({}, {(i, i + 1): 1.0 for i in range(599)}, 0.0, "SPIN")
    order = fiedler_order(read(chain).sparse(), 0)
    position = np.argsort(order)
    assert np.abs(np.diff(position)).mean() < 20


def test_impact_order_and_cuts():
    assert impact_order(np.array([1.0, -3.0, 0.0, 2.0])).tolist() == [1, 3, 0, 2]
    assert [b.tolist() for b in cut(np.arange(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [b.tolist() for b in cut(np.arange(7), 3, 1)] == [[0], [1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("value", [0, 2.5, None])
def test_a_limit_that_is_no_positive_whole_number_is_refused(value):
    with pytest.raises(SamplerError, match="max_variables"):
        BlockDecomposer(ExhaustiveSampler(), value)


def test_what_is_no_sampler_is_refused():
    with pytest.raises(SamplerError, match=r"dimod\.Sampler"):
        BlockDecomposer("tabu", 3)


@pytest.mark.parametrize(("given", "message"), [({"order": "alphabetic"}, "'spectral'"), ({"max_sweeps": 0}, "sweeps")])
def test_what_cannot_be_used_is_named(given, message):
    with pytest.raises(SamplerError, match=message):
        BlockDecomposer(ExhaustiveSampler(), 3).sample(random_model(4, 0), **given)


@pytest.mark.parametrize("vartype", ["BINARY", "SPIN"])
def test_a_model_of_zeros_takes_one_sweep(vartype):
    model = dimod.BinaryQuadraticModel(dict.fromkeys(range(6), 0.0), {(0, 1): 0.0}, 0.0, vartype)
    inner = Recorder()
    BlockDecomposer(inner, 3).sample(model, seed=0)
    assert len(inner.models) == 2
