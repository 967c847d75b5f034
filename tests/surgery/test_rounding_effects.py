"""Layers at each of some forms: the same whether their Hessians are held together or one after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from coldpress.surgery import rounding_effects
from coldpress.surgery.round_layers import Form
from coldpress.surgery.rounding_effects import RoundingEffects
from tiny import chain, images

FORMS = {"first": [Form(4), Form(3, 0.5), Form(3)], "second": [Form(4), Form(2)], "head": [Form(3)]}


def effects(executor: ThreadPoolExecutor | None = None) -> RoundingEffects:
    return RoundingEffects(chain(), FORMS, images(16), executor=executor)


def test_layers_by_parts_are_those_of_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    together = effects()
    assert list(rounding_effects._parts(chain(), FORMS)) == [["first", "second", "head"]]
    monkeypatch.setattr(rounding_effects, "MOST_BYTES", 1)
    assert list(rounding_effects._parts(chain(), FORMS)) == [["first"], ["second"], ["head"]]
    with ThreadPoolExecutor(1) as executor:
        for other in (effects(), effects(executor)):
            assert other.space == together.space
            for name, forms in FORMS.items():
                for form in forms:
                    one, two = (e.replacements({name: form.label})[name] for e in (together, other))
                    assert torch.equal(one.weight, two.weight)
                    torch.testing.assert_close(one.bias, two.bias)


def test_every_form_is_told_once() -> None:
    told: list[tuple[int, int]] = []
    RoundingEffects(chain(), FORMS, images(16), progress=lambda done, total: told.append((done, total)))
    assert told == [(i + 1, 6) for i in range(6)]
