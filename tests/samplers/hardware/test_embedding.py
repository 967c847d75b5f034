"""Embeddings keep couplings, reads come back as samples, estimates tell what would be used."""

import dimod
import numpy as np
import pytest
from dwave.embedding import verify_embedding

from coldpress.errors import HardwareError, SamplerError
from coldpress.samplers.hardware import Embedding, embed, estimate_embedding
from coldpress.samplers.hardware.estimate import qpu_seconds
from coldpress.samplers.hardware.topologies import clique, clique_bound, graph_of, largest_clique


def dense(n):
    return dimod.BinaryQuadraticModel(
        dict.fromkeys(range(n), 0.5), {(i, j): 1.0 for i in range(n) for j in range(i)}, 0.0, "SPIN"
    )


def ring(n):
    return dimod.BinaryQuadraticModel({}, {(f"v{i}", f"v{(i + 1) % n}"): -1.0 for i in range(n)}, 0.0, "SPIN")


@pytest.mark.parametrize(("topology", "size"), [("pegasus", 3), ("pegasus", 4), ("zephyr", 2), ("zephyr", 3)])
def test_the_largest_clique_is_the_published_one_and_twice_as_many_do_not_fit(topology, size):
    graph = graph_of(topology, size)
    most = largest_clique(graph)
    assert most == clique_bound(topology, size)
    embedding = embed(dense(most), graph)
    assert embedding.longest_chain == size + 1
    with pytest.raises(HardwareError, match=f"cliques of up to {most} variables.*max_variables={most}"):
        embed(dense(2 * most), graph, time_limit=1.0)


@pytest.mark.parametrize("topology", ["pegasus", "zephyr"])
def test_small_cliques_are_embedded_too(topology):
    graph = graph_of(topology, 3)
    for n in range(1, 13):
        chains = clique(graph, n)
        assert len(chains) == n
        verify_embedding({i: list(chain) for i, chain in chains.items()}, list(dense(n).quadratic), graph.edges)


def test_defects_make_the_largest_clique_smaller():
    graph = graph_of("pegasus", 4).copy()
    graph.remove_nodes_from(list(graph)[::7])
    most = largest_clique(graph)
    assert 1 < most < clique_bound("pegasus", 4)
    assert embed(dense(most), graph).qubits <= len(graph)


@pytest.mark.parametrize(
    "model", [dense(12), ring(30), dimod.BinaryQuadraticModel({"a": 1, "b": 2}, {}, 0.0, "BINARY")]
)
@pytest.mark.parametrize("topology", ["pegasus", "zephyr"])
def test_an_embedding_is_one_by_the_vendors_check(model, topology):
    graph = graph_of(topology, 3)
    embedding = embed(model, graph, seed=1)
    assert set(embedding.chains) == set(model.variables)
    verify_embedding({v: list(chain) for v, chain in embedding.chains.items()}, list(model.quadratic), graph.edges)
    assert embedding.chains == embed(model, graph, seed=1).chains


def test_a_sparse_model_takes_fewer_qubits_than_its_clique():
    embedding = embed(ring(24), graph_of("pegasus", 3))
    assert embedding.method == "heuristic"
    assert embedding.qubits < embed(dense(24), graph_of("pegasus", 3)).qubits


@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_whole_chains_come_back_as_they_are_and_broken_ones_are_counted(vartype):
    model = dense(3).change_vartype(vartype, inplace=False)
    embedding = Embedding({0: (5,), 1: (6, 7, 8), 2: (9, 10)}, "given")
    reads = np.array([[1, -1, -1, -1, 1, 1], [1, 1, 1, -1, 1, 1], [1, -1, -1, -1, 1, 1]])
    samples = dimod.SampleSet.from_samples((reads, [5, 6, 7, 8, 9, 10]), "SPIN", energy=[0.0, 0.0, 0.0])
    found, facts = embedding.read_back(samples, model)
    high, low = 1, min(model.vartype.value)
    np.testing.assert_array_equal(
        found.record.sample[:, [found.variables.index(i) for i in range(3)]][0], [high, low, high]
    )
    np.testing.assert_array_equal(
        found.record.sample[:, [found.variables.index(i) for i in range(3)]][1], [high, high, high]
    )
    np.testing.assert_allclose(found.record.energy, model.energies(found))
    np.testing.assert_allclose(found.record.chain_break_fraction, [0.0, 1 / 3, 0.0])
    assert facts["chain_break_fraction"] == pytest.approx(1 / 9)
    assert facts["reads_with_broken_chains"] == 1
    assert len(embedding.read_back(samples, model, "discard")[0]) == 2
    least, _ = embedding.read_back(samples, model, "minimize_energy")
    assert least.record.energy[1] <= found.record.energy[1]
    with pytest.raises(SamplerError, match="chain_break_method is 'vote'"):
        embedding.read_back(samples, model, "vote")


def test_an_estimate_says_what_a_run_would_take():
    found = estimate_embedding(dense(20), "pegasus", size=4, num_reads=1000)
    assert found.fits
    assert found.embedding.qubits == sum(len(chain) for chain in found.embedding.chains.values())
    assert (found.variables, found.couplings, found.largest_clique) == (20, 190, 36)
    # programming once, and the reads one like the other
    programming = found.qpu_seconds - 1000 * found.read_seconds
    twice = estimate_embedding(dense(20), "pegasus", size=4, num_reads=2000)
    assert twice.qpu_seconds == pytest.approx(programming + 2000 * found.read_seconds)
    assert programming > 0
    assert "Advantage_system4.1" in found.timing_source
    assert {"qubits", "longest_chain", "fits"} <= set(found.facts())


def test_an_estimate_invents_no_times_and_tells_what_does_not_fit():
    zephyr = estimate_embedding(dense(10), "zephyr", size=2)
    assert (zephyr.fits, zephyr.qpu_seconds, zephyr.timing_source) == (True, None, None)
    large = estimate_embedding(dense(30), "pegasus", size=3, time_limit=1.0)
    assert (large.fits, large.embedding, large.largest_clique) == (False, None, 24)
    with pytest.raises(SamplerError, match="topology is 'chimera'"):
        estimate_embedding(dense(3), "chimera")
    for topology in ("pegasus", "zephyr"):
        with pytest.raises(SamplerError, match="size is 1"):
            estimate_embedding(dense(3), topology, size=1)
    with pytest.raises(HardwareError, match="beyond"):
        estimate_embedding(dense(3), "zephyr", size=1000)
    with pytest.raises(SamplerError, match="nan"):
        estimate_embedding(dimod.BinaryQuadraticModel({"a": float("nan")}, {}, 0.0, "SPIN"))


def test_the_vendors_formula_adds_the_annealing_time_of_every_read():
    from dwave.cloud.testing.mocks import qpu_problem_timing_data

    properties = {"problem_timing_data": qpu_problem_timing_data("advantage")}
    usual, longer = (qpu_seconds(properties, 100, 10, annealing_time) for annealing_time in (None, 120.0))
    assert longer - usual == pytest.approx(10 * 100e-6)  # 20 microseconds are the default
