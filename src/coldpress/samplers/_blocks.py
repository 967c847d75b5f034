"""Orders in which variables are cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg

from coldpress.samplers._model import Floats, Ints

_DENSE = 500  # variables up to which all eigenvectors are computed


def cut(order: Ints, size: int, shift: int = 0) -> Iterator[Ints]:
    """Blocks of at most ``size`` in this order, the first one ``shift`` long where that is not 0."""
    if shift:
        yield order[:shift]
    for begin in range(shift, len(order), size):
        yield order[begin : begin + size]


def impact_order(change: Floats) -> Ints:
    """Variables by the size of the energy's change by a flip, ``change`` (n,), largest first."""
    order: Ints = np.argsort(-np.abs(change), kind="stable")
    return order


def fiedler_order(couplings: Any, seed: int) -> Ints:
    """Variables along the second eigenvector of the Laplacian of |couplings|, one connected part after the other.

    Args:
        couplings: (n, n), symmetric, compressed.
        seed: of the iteration's first vector.
    """
    weights = scipy.sparse.csr_array(abs(couplings))
    weights.eliminate_zeros()
    count, part = scipy.sparse.csgraph.connected_components(weights, directed=False)
    rng = np.random.default_rng(seed)
    pieces = []
    for label in range(count):
        members = np.flatnonzero(part == label)
        if len(members) > 2:
            members = members[np.argsort(_fiedler(weights[members][:, members], rng), kind="stable")]
        pieces.append(members)
    return np.concatenate(pieces)


def _fiedler(weights: Any, rng: np.random.Generator) -> Floats:
    """The second eigenvector of a connected graph's normalised Laplacian, (k,)."""
    degrees = np.asarray(weights.sum(axis=1)).ravel()
    roots = scipy.sparse.diags_array(1.0 / np.sqrt(degrees))
    similar = roots @ weights @ roots
    size = len(degrees)
    if size <= _DENSE:
        vector = np.linalg.eigh(similar.toarray())[1][:, -2]
    else:
        vectors = scipy.sparse.linalg.eigsh(similar, k=2, which="LA", v0=rng.random(size), tol=1e-4)[1]
        vector = vectors[:, 0]
    along: Floats = np.asarray(vector / np.sqrt(degrees), dtype=np.float64)
    return along
