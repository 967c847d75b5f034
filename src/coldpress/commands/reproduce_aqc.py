"""`coldpress reproduce aqc`: the published QUBO of filters and bits by many solvers, and what its samples are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from coldpress.commands import results
from coldpress.commands.subject import read_task
from coldpress.commands.terminal import out, progress_bars
from coldpress.papers.aqc import AQC
from coldpress.papers.aqc_table import SCALES, SOLVERS, Ranked, Row, best_bound, gap
from coldpress.papers.decoded import DECODED, REFITTED, TRAINED
from coldpress.recipe import Recipe
from coldpress.report import formats

HEADS = (
    "energy: solver",
    "L",
    "before repair",
    "gap",
    "rate",
    "seconds",
    "gammas",
    "reads, 25 to 75 %",
    "chain breaks",
    "packed, re-fitted",
    DECODED,
    REFITTED,
    TRAINED,
    "",
)
RANKED = ("energy", "rank correlation with the measured loss, rising strength", "one strength", "")
TITLE = "Filters and bits as a QUBO"


def run(
    recipe: Recipe,
    rate: float,
    code: str,
    scale: str,
    changes: Mapping[str, Any],
    solvers: Sequence[str] | None,
    folder: Path,
    overwrite: bool,
) -> None:
    """Everything that is not in the folder yet; ``changes`` are to the scale."""
    results.check_scale(scale, SCALES)
    amount, names = replace(SCALES[scale], **changes), tuple(SOLVERS if solvers is None else solvers)
    subject = ("model", "weights", "data", "num_classes", "ignored_layers", "seed")
    given = {name: getattr(recipe, name) for name in subject}
    coded = {} if code == "cut" else {"code": code}  # folders from before there was a choice go on
    settings = results.same(**given, rate=rate, scale=asdict(amount), **coded)
    earlier = results.begin(folder, overwrite, settings)
    known = [Row.read(row) for row in earlier.get("rows", [])]
    known_ranks = [Ranked(**found) for found in earlier.get("rank_correlations", [])]
    task = read_task(recipe)
    head = results.head(recipe, scale=scale, settings=settings, solvers=names)
    rows, ranks = known, known_ranks
    found_rows, found_ranks = list[Row](), list[Ranked]()
    with progress_bars() as tell:
        experiment = AQC(task, rate, amount, names, recipe.seed, [*known, *known_ranks], tell, code)
        for found in experiment.stages():  # each is kept as soon as it is there, beside those of the run before
            if isinstance(found, Ranked):
                found_ranks.append(found)
                ranks = found_ranks
            else:
                found_rows.append(found)
                there = {row.name for row in found_rows}
                rows = [*found_rows, *(row for row in known if row.name not in there)]
            lists = {"rows": [asdict(row) for row in rows], "rank_correlations": [asdict(rank) for rank in ranks]}
            results.write(folder, {**head, **lists}, markdown(rows, ranks))
    out.print(results.shown(f"{TITLE}, at a rate of {rate:g}", HEADS, all_cells(rows)))
    out.print(results.shown("Rank correlations", RANKED, [ranked_cells(found) for found in ranks]))
    out.print(f"Wrote {folder}: {results.RESULTS}, {results.TABLE}", highlight=False, soft_wrap=True)


def all_cells(rows: Sequence[Row]) -> list[list[str]]:
    """The rows' figures as words; the gap is to the highest bound that any of them proved."""
    bound = best_bound(rows)
    return [cells(row, bound) for row in rows]


def cells(row: Row, bound: float | None) -> list[str]:
    """A row's figures as words; what was minimised is told before repair, and the published loss of what it became."""
    judged = row.judged
    sizes = [found.bytes for found in judged.values()]
    return [
        ": ".join(filter(None, row.name)),
        formats.three(row.loss) if row.loss is not None else "",
        formats.three(row.raw) if row.runs else "",
        formats.percent(gap(row, bound)) if row.runs else "",
        f"{row.reduction:.3f}" if row.reduction is not None else "",
        f"{row.seconds:.1f}" if row.seconds is not None else "",
        str(row.runs) if row.runs else "",
        " to ".join(formats.three(row.read_energies[at]) for at in (0, -1)) if row.read_energies else "",
        formats.percent(row.chain_breaks) if row.chain_breaks is not None else "",
        ", ".join(formats.size(size) for size in sizes[:2]),
        *(_accuracy(row, stage) for stage in (DECODED, REFITTED, TRAINED)),
        row.note,
    ]


def ranked_cells(found: Ranked) -> list[str]:
    """An energy's rank correlations as words."""
    return [found.energy, f"{found.rising:.3f}", f"{found.equal:.3f}", ""]


def markdown(rows: Sequence[Row], ranks: Sequence[Ranked]) -> str:
    """For a page."""
    text = results.as_markdown(HEADS, all_cells(rows))
    text += (
        "\nL: L_p + beta L_q of the published energy, after repair; before repair: the least of the energy that was "
        "minimised among reads that met the rate as they came. The gap is to the highest bound that any solver proved. "
        "Reads: quartiles of their energies, loss less gamma times reduction, in the run that gave the sample. "
        "Accuracies are on the test data, of the network that was loaded from the packed file.\n"
    )
    return text + ("\n" + results.as_markdown(RANKED, [ranked_cells(found) for found in ranks]) if ranks else "")


def _accuracy(row: Row, stage: str) -> str:
    """Of the original, its one accuracy stands first."""
    found = row.judged.get(stage)
    if found is None and stage == DECODED:
        found = next(iter(row.judged.values()), None)
    return "" if found is None else f"{formats.percent(found.accuracy, 2)} ({formats.interval(found.interval)})"
