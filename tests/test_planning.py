"""Corrections of predicted times stay between what was seen to be too little and what was seen to be enough."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldpress.planning import _Correction


@given(st.lists(st.tuples(st.floats(0.3, 3.0), st.booleans()), min_size=1, max_size=8))
def test_a_correction_never_leaves_the_bracket_that_measurements_gave(seen: list[tuple[float, bool]]) -> None:
    correction, value = _Correction(), 1.0
    for ratio, too_long in seen:
        value *= correction.next(ratio, too_long)
        assert value == pytest.approx(correction.value)
        if correction.too_low < correction.enough < np.inf and correction.too_low:
            assert correction.too_low < value < correction.enough


@given(st.floats(0.5, 2.0))
def test_a_wrong_scale_is_found(truth: float) -> None:
    """A plan takes all that is predicted to be allowed; what it really takes is ``truth`` times that."""
    correction = _Correction()
    for _ in range(5):
        used = truth / correction.value
        if 0.95 <= used <= 1.0:
            break
        correction.next(used, used > 1.0)
    assert 0.9 <= truth / correction.value <= 1.0
