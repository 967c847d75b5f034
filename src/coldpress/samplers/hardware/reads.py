"""Reads as they came from hardware, written down before anything is done with them, and read back as a sampler."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import dimod

from coldpress.errors import SamplerError
from coldpress.files import write_text
from coldpress.samplers._arguments import listed
from coldpress.samplers.hardware.embedding import Embedding

FORMAT = 1
METHOD = "reads kept from a run before"


def keep(
    folder: Path,
    source: str,
    reads: dimod.SampleSet,
    model: dimod.BinaryQuadraticModel | None,
    embedding: Embedding | None = None,
) -> Path:
    """Write the reads, the model and the embedding that they belong to into a new file of ``folder``.

    Args:
        folder: made where it is missing.
        source: what they come from, in words.
        reads: of qubits where there is an embedding, else of the model's variables.
        model: that was to be sampled; None for a constrained one.
        embedding: of the model's variables in qubits.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = next(p for n in itertools.count() if not (p := folder / f"reads-{stamp}-{n}.json").exists())
    variables = list(reads.variables if model is None else model.variables)
    numbers = {v: i for i, v in enumerate(variables)}
    content = {
        "coldpress_reads": FORMAT,
        "source": source,
        "labels": [str(v) for v in variables],
        "model": None if model is None else model.relabel_variables(numbers, inplace=False).to_serializable(),
        "chains": None if embedding is None else [list(embedding.chains[v]) for v in variables],
        # Labels may be what JSON does not know, numbers are not; qubits are numbers already.
        "reads": (reads if embedding else reads.relabel_variables(numbers, inplace=False)).to_serializable(),
    }
    return write_text(path, json.dumps(content, default=str) + "\n")


def open_reads(path: str | Path) -> KeptReads | KeptCQMReads:
    """The reads of a file that `keep` wrote, as the sampler of the kind of model that they were taken of.

    Raises:
        SamplerError: the file is missing, or holds no reads.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["coldpress_reads"] != FORMAT:
            raise SamplerError(f"{path} is of format {content['coldpress_reads']!r}; this version reads {FORMAT}")
        reads, labels = dimod.SampleSet.from_serializable(content["reads"]), list(content["labels"])
        if content["model"] is None:
            return KeptCQMReads(reads, labels, str(content["source"]))
        model = dimod.BinaryQuadraticModel.from_serializable(content["model"])
        chains = content["chains"]
        embedding = None if chains is None else Embedding({i: tuple(chain) for i, chain in enumerate(chains)}, "kept")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, SamplerError):
            raise
        raise SamplerError(f"{path} holds no kept reads: {error!r}") from error
    return KeptReads(reads, labels, str(content["source"]), model, embedding)


class KeptReads(dimod.Sampler):
    """A sampler that gives reads that were kept, for the model that they were taken of.

    So a run that stopped after its reads were paid for is finished without paying again.
    """

    def __init__(
        self,
        reads: dimod.SampleSet,
        labels: list[str],
        source: str,
        model: dimod.BinaryQuadraticModel,
        embedding: Embedding | None,
    ) -> None:
        self._reads, self._labels, self._source = reads, labels, source
        self._model, self._embedding = model, embedding

    @property
    def parameters(self) -> dict[str, list[str]]:
        """None of them changes anything."""
        return listed("num_reads", "seed")

    @property
    def properties(self) -> dict[str, Any]:
        """What the reads come from."""
        return {"method": f"{METHOD}: {self._source}"}

    def sample(self, bqm: Any, *, num_reads: int = 0, seed: int | None = None, **kwargs: Any) -> dimod.SampleSet:
        """All reads, whatever ``num_reads`` and ``seed`` are.

        Raises:
            SamplerError: the model is not the one that the reads were taken of.
        """
        del num_reads, seed
        self.remove_unknown_kwargs(**kwargs)
        variables = list(bqm.variables)
        same = bqm.relabel_variables({v: i for i, v in enumerate(variables)}, inplace=False)
        if [str(v) for v in variables] != self._labels or not same.is_almost_equal(self._model, places=6):
            raise SamplerError("the reads in this file were taken of another model")
        reads, facts = self._reads, {"method": METHOD, "kind": self._source}
        if self._embedding is not None:
            reads, broken = self._embedding.read_back(reads, same)
            facts |= self._embedding.facts() | broken
        found = reads.relabel_variables(dict(enumerate(variables)), inplace=False)
        found.info.clear()
        found.info.update(facts)
        return found


class KeptCQMReads:
    """As `KeptReads`, for a constrained model; whoever asks computes energies and constraints again."""

    def __init__(self, reads: dimod.SampleSet, labels: list[str], source: str) -> None:
        self._reads, self._labels, self._source = reads, labels, source
        self.parameters: dict[str, list[str]] = {}
        self.properties = {"method": f"{METHOD}: {source}"}

    def sample_cqm(self, cqm: dimod.ConstrainedQuadraticModel) -> dimod.SampleSet:
        """All reads.

        Raises:
            SamplerError: the model has other variables than the reads.
        """
        names = {str(v): v for v in cqm.variables}
        if set(names) != set(self._labels):
            raise SamplerError("the reads in this file were taken of a model with other variables")
        found = self._reads.relabel_variables({i: names[v] for i, v in enumerate(self._labels)}, inplace=False)
        found.info.clear()
        found.info.update(method=METHOD, kind=self._source)
        return found
