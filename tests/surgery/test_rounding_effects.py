"""Layers at each of some forms: the same whether their Hessians are held together or one after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from coldpress.executors import open_executor
from coldpress.surgery import rounding_effects
from coldpress.surgery.group_moments import collect_group_moments
from coldpress.surgery.refit import dense_weight
from coldpress.surgery.round_groups import Form, Search, round_groups
from coldpress.surgery.rounding_effects import RoundingEffects
from tiny import Grouped, chain, images

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


def test_groups_are_rounded_by_their_own_inputs_on_any_executor() -> None:
    torch.manual_seed(0)
    model, forms = Grouped().eval(), {"depthwise.0": [Form(3)], "grouped.0": [Form(4), Form(4, 0.5)]}
    assert model.get_submodule("grouped.0").groups == 4
    alone = RoundingEffects(model, forms, images(16))
    moments = collect_group_moments(model, list(forms), images(16))["grouped.0"].matrix
    dense = dense_weight(model.get_submodule("grouped.0"))
    found = alone.replacements({"grouped.0": "4 bits"})["grouped.0"]
    for g in range(4):
        own = slice(4 * g, 4 * g + 4)
        one = round_groups(dense[own], moments[g], Form(4), Search(sweeps=6, seed=4 * g)).dequantized
        assert torch.equal(found.weight[own].flatten(1), one)
    with open_executor("processes") as pool:
        other = RoundingEffects(model, forms, images(16), executor=pool)
    for name, own_forms in forms.items():
        for form in own_forms:
            one, two = (e.replacements({name: form.label})[name] for e in (alone, other))
            assert torch.equal(one.weight, two.weight)
            torch.testing.assert_close(one.bias, two.bias)


def test_every_form_is_told_once() -> None:
    told: list[tuple[int, int]] = []
    RoundingEffects(chain(), FORMS, images(16), progress=lambda done, total: told.append((done, total)))
    assert told == [(i + 1, 6) for i in range(6)]
