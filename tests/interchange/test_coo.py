"""COO text: nothing in a file is dropped, nothing is lost in writing."""

from __future__ import annotations

import logging
from pathlib import Path

import dimod
import pytest
from dimod.serialization import coo as dimods

from coldpress.errors import PlanError
from coldpress.interchange import coo, read


def test_exponents_comments_and_a_late_header_are_read() -> None:
    text = "# a model\n0 0 -1\n1 1 1e-3  # small\n\n0 1 -5e0\n# vartype=SPIN\n0 1 .5\n"
    model = coo.loads(text)
    assert model == dimod.BinaryQuadraticModel({0: -1.0, 1: 1e-3}, {(0, 1): -4.5}, 0.0, "SPIN")


@pytest.mark.parametrize("line", ["0 1 nan", "0, 1, 2", "a b 1", "0 1", "0 1 1e999", "0 -1 2", "0 1 2 3", "0 1 0x1"])
def test_any_other_line_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(PlanError, match="line 3 "):
        coo.loads(f"# vartype=SPIN\n0 0 1\n{line}\n1 1 1\n")


def test_the_vartype_is_of_the_header_or_given(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.coo").write_text("0 1 -1\n")
    assert read(tmp_path / "a.coo", "SPIN").model.vartype is dimod.SPIN
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "coldpress.interchange.coo"):
        assert read(tmp_path / "a.coo").model.vartype is dimod.BINARY
    assert "read as BINARY" in caplog.text
    with pytest.raises(PlanError, match="line 1 says vartype SPIN, but BINARY was given"):
        coo.loads("# vartype=SPIN\n0 1 -1\n", "BINARY")
    with pytest.raises(PlanError, match="line 1 says vartype INTEGER"):
        coo.loads("# vartype=INTEGER\n0 1 -1\n")
    with pytest.raises(PlanError, match="vartype is 'spin'"):
        read(tmp_path / "a.coo", "spin")


@pytest.mark.parametrize("vartype", ["BINARY", "SPIN"])
def test_a_model_is_the_same_after_writing(vartype: str) -> None:
    linear = {"a/b": 1e-9, "x # y": -0.1, "zero": 0.0, "ä\n": 1e17 / 3}
    model = dimod.BinaryQuadraticModel(linear, {("a/b", "ä\n"): 1.0 / 3, ("zero", "x # y"): 4e-300}, -1e-8, vartype)
    text = coo.dumps(model)
    assert coo.loads(text) == model
    numbered, _ = model.relabel_variables_as_integers(inplace=False)
    numbered.offset = 0.0  # dimod's reader knows none
    assert dimods.loads(text) == numbered


def test_names_may_look_like_anything() -> None:
    model = dimod.BinaryQuadraticModel({"layer#1 vartype: SPIN": 1.0, "# offset: 3": -2.0}, {}, 0.5, "BINARY")
    assert coo.loads(coo.dumps(model)) == model


def test_names_that_are_alike_are_refused() -> None:
    with pytest.raises(PlanError, match="same name"):
        coo.loads('# vartype=SPIN\n# name 0 "a"\n# name 1 "a"\n0 1 1\n')
