"""The page of a contest, from results made by hand."""

import pytest

from coldpress.contest import summary
from coldpress.report import contest
from coldpress.report.contest import gap_text, ordered


def run(solver, seed, trace, more=None):
    return {
        "family": "f", "instance": 0, "solver": solver, "seed": seed, "seconds": 2.0, "trace": trace,
        "energy": trace[-1][1] if trace else None, "bound": 1.5 if solver == "s0" else None, "took": 2.0,
        "best": [seed, 1] if trace else None, "energies": [5.0 + seed + i for i in range(12)] if trace else [],
        "reads": 12 if trace else 0, "distinct": 6, "distance": 0.25, "more": more or {},
    }  # fmt: skip


@pytest.fixture
def results():
    facts = [run(f"s{i}", seed, [[0.01 * (i + 1), 9.0], [1.0, 2.0 + i]]) for i in range(8) for seed in range(3)]
    facts += [run("none <found>", seed, []) for seed in range(3)]
    facts += [run("chains", seed, [[0.5, 3.0]], {"chain breaks": 0.125, "qubits": 640.0}) for seed in range(3)]
    titles = {row["solver"]: f"title of {row['solver']}" for row in facts}
    return {
        "command": "coldpress benchmark solvers", "versions": {"coldpress": "1"}, "machine": {"cores": 2},
        "settings": {"seeds": 3, "seconds": 2.0, "within": 0.001, "instances": 1}, "warnings": ["Beware."],
        "families": {"f": {"title": "a family", "facts": "Two units.", "solvers": titles}},
        "rows": summary(facts, {}, 0.001),
        "refused": {"f: huge": "too large", "f: vast": "too large", "g: s0": "not made for it"},
    }  # fmt: skip


def test_the_page_shows_every_solver_and_stands_alone(results, tmp_path):
    html = contest.render(results, tmp_path / "benchmark.html").read_text()
    assert all(f"title of s{i}" in html for i in range(8))
    assert "none &lt;found&gt;" in html
    assert "chain breaks 12.5 %" in html
    assert "Beware." in html
    table = html[: html.index("</table>")]
    assert "huge, vast" in table
    assert table.count("too large") == 1
    assert "not made for it" in html
    assert html.count("<svg") == 2
    assert "http" not in html.replace("http-equiv", "")
    assert "NaN" not in html
    assert ">inf" not in html


def test_the_best_comes_first_and_what_found_nothing_last(results):
    names = [row["solver"] for row in ordered(results["rows"])]
    assert names[0] == "s0"
    assert names[-1] == "none <found>"


def test_a_family_in_which_nothing_was_found_has_a_table_and_no_figure(results, tmp_path):
    results["rows"] = summary([run("s0", 0, [])], {}, 0.0)
    html = contest.render(results, tmp_path / "benchmark.html").read_text()
    assert "<svg" not in html
    assert "title of s0" in html


def test_gaps_are_written_with_the_digits_they_have():
    assert gap_text(0.0) == "0 %"
    assert gap_text(1e-9) == "< 0.0001 %"
    assert gap_text(0.0123) == "1.23 %"
    assert gap_text(None) == "–"
