"""Tables of embeddings: fewer features, int8 rows; the file computes and weighs what was predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
from torch import Tensor, nn

from coldpress.cost.size import size_cost
from coldpress.deploy import export_both, int8_layers
from coldpress.errors import ExportError, PlanError
from coldpress.network import evaluating, forwarding
from coldpress.plan import Option, Plan, Space
from coldpress.runtime.sessions import run, session
from coldpress.runtime.tables import round_tables
from coldpress.space.vocabularies import tables_of_inputs
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.factorize import factor_table
from coldpress.surgery.moments import Moments, collect_moments
from coldpress.surgery.shared_rows import SharedRows, share_rows
from coldpress.surgery.structure import rebuild
from coldpress.vocabulary import rarest_first
from tiny import space_of

ROWS, FEATURES = 1000, 80


class Words(nn.Module):
    """Means of embeddings, which lie near a plane of 12 dimensions, and a linear layer."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.few = nn.Embedding(ROWS, FEATURES), nn.Embedding(8, FEATURES)
        self.hidden, self.head = nn.Linear(FEATURES, 32), nn.Linear(32, 5)
        with torch.no_grad():
            self.table.weight.copy_(torch.randn(ROWS, 12) @ torch.randn(12, FEATURES) + 1)
            self.table.weight.add_(0.05 * torch.randn(ROWS, FEATURES))
        self.tied = nn.Linear(FEATURES, ROWS) if tied else None
        if self.tied is not None:
            self.tied.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = (self.table(ids) + self.few(ids % 8)).mean(1)
        x = x + self.tied(x).mean() if self.tied is not None else x
        return self.head(torch.relu(self.hidden(x)))


def ids(count: int, seed: int = 1) -> Tensor:
    return torch.randint(0, ROWS // 2, (count, 6), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def made() -> tuple[Words, Space, dict[str, Moments], Effects]:
    model = Words().eval()
    space = space_of(model, (ids(1),), "rank", "bits", "vocabulary")
    moments = collect_moments(model, [site.name for site in space.sites], [ids(64)])
    return model, space, moments, Effects(model, space, moments)


def test_large_tables_of_their_own_are_units_where_bytes_matter(made: tuple[Words, Space, object, object]) -> None:
    names = [unit.name for unit in made[1].units if "table" in unit.name or "few" in unit.name]
    assert names == ["table:rank", "table:bits", "table:vocabulary"]
    assert not any("table" in unit.name for unit in space_of(made[0], (ids(1),), "rank", "width").units)
    assert not any("table" in unit.name for unit in space_of(Words(tied=True), (ids(1),)).units)


FEWER = {"table:vocabulary": "512/1000"}
CHOICES = [{"table:rank": "svd 20"}, {"table:bits": "int8"}, {"table:rank": "svd 20", "table:bits": "int8"}]
CHOICES += [FEWER, {**FEWER, "table:bits": "int8"}, {**FEWER, **CHOICES[2]}]
UNPAID = {**FEWER, "table:rank": "svd 72"}


@pytest.mark.parametrize("choices", CHOICES)
def test_the_deployed_file_computes_and_weighs_what_was_predicted(
    made: tuple[Words, Space, dict[str, Moments], Effects], choices: dict[str, str], tmp_path: Path
) -> None:
    model, space, moments, effects = made
    with evaluating(model), forwarding(model, effects.replacements(choices)):
        predicted = model(ids(40, 2))
    student, plan = apply_plan(model, space, Plan(choices, effects.kept(choices)), moments=moments)
    files = {}
    for name, network, int8 in (("before", model, {}), ("after", student, int8_layers(space, plan, student))):
        files[name] = tmp_path / f"{name}.onnx"
        export_both(network, (ids(2),), int8, [ids(8)], tmp_path / "fp32.onnx", files[name])
    (found,) = run(session(files["after"]), [ids(40, 2).numpy()])
    torch.testing.assert_close(torch.from_numpy(found), predicted, rtol=1e-4, atol=1e-4)
    original = model(ids(40, 2)).detach()
    assert (predicted - original).norm() < 0.1 * original.norm()
    cost = size_cost(space)
    saved = cost.value([0] * len(space.units)) - cost.value(
        [unit.index(choices.get(unit.name, "keep")) for unit in space.units]
    )
    assert files["before"].stat().st_size - files["after"].stat().st_size == pytest.approx(saved, rel=0.02)
    fresh = Words()
    rebuild(fresh, plan.structure)
    fresh.load_state_dict(student.state_dict())
    torch.testing.assert_close(fresh.eval()(ids(4)), student(ids(4)))


def test_tokens_whose_row_is_gone_read_the_nearest(
    made: tuple[Words, Space, dict[str, Moments], Effects], tmp_path: Path
) -> None:
    model, space, moments, _ = made
    effects = Effects(model, space, moments)
    effects.orders["table:vocabulary"] = list(range(ROWS))  # those in use go first
    choices = {"table:vocabulary": "768/1000"}
    with evaluating(model), forwarding(model, effects.replacements(choices)):
        predicted = model(ids(40, 2))
    student, _ = apply_plan(model, space, Plan(choices, effects.kept(choices)))
    torch.testing.assert_close(student(ids(40, 2)), predicted)
    table, read = model.table.weight.detach(), student.get_submodule("table")(torch.arange(ROWS))
    alike = torch.nn.functional.cosine_similarity(table[:, None], table[None, ROWS - 768 :], dim=2)
    torch.testing.assert_close(torch.cosine_similarity(table, read), alike.amax(dim=1), rtol=1e-4, atol=1e-4)
    assert torch.equal(read[ROWS - 768 :], table[ROWS - 768 :])
    assert not torch.allclose(predicted, model(ids(40, 2)))
    with pytest.raises(PlanError, match="which rows stay"):
        apply_plan(model, space, Plan(choices))
    for wrong in ((0,) * 768, range(-1, 767), range(500, 1268)):
        with pytest.raises(PlanError, match="rows twice, or others than 0 to 999"):
            apply_plan(model, space, Plan(choices, {"table:vocabulary": tuple(wrong)}))


def test_what_fills_texts_up_is_nobodys_nearest_and_stays_what_it_is() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(1000, 16, padding_idx=3))
    share_rows(model, "0", range(2, 600))
    shared = model[0]
    assert isinstance(shared, SharedRows)
    assert isinstance(shared.table, nn.Embedding)
    assert shared.table.padding_idx == 1
    readers = (shared.rows == 1).nonzero().ravel().tolist()
    assert readers == [3]
    assert torch.equal(shared(torch.tensor([3]))[0], torch.zeros(16))


def test_factors_that_do_not_pay_with_fewer_rows_are_left_out_alike(
    made: tuple[Words, Space, dict[str, Moments], Effects],
) -> None:
    model, space, moments, _ = made
    wide = replace(
        space.unit("table:rank"),
        options=(*space.unit("table:rank").options, Option("svd 72", method="svd", rank=(72,))),
    )
    space = replace(space, units=tuple(wide if unit.name == wide.name else unit for unit in space.units))
    effects = Effects(model, space, moments, remember=100_000)
    with evaluating(model), forwarding(model, effects.replacements(UNPAID)):
        predicted = model(ids(40, 2))
    student, _ = apply_plan(model, space, Plan(UNPAID, effects.kept(UNPAID)), moments=moments)
    torch.testing.assert_close(student(ids(40, 2)), predicted, rtol=1e-4, atol=1e-4)
    assert effects._held <= 100_000
    assert sum(weight.numel() * 4 for weight in effects._weights.values()) == effects._held


def test_a_table_under_two_names_is_replaced_under_both() -> None:
    model = Words()
    model.embeddings = nn.ModuleDict({"again": model.table})
    model.forward = lambda ids: Words.forward(model, ids)
    space = space_of(model.eval(), (ids(1),), "vocabulary")
    effects = Effects(model, space, {})
    student, plan = apply_plan(model, space, Plan(FEWER, effects.kept(FEWER)))
    assert student.embeddings["again"] is student.table
    assert list(plan.structure) == ["table"]


def test_the_input_that_a_table_reads_is_told_from_others_that_look_alike() -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item, self.place = nn.Embedding(2000, 40), nn.Embedding(3000, 40), nn.Embedding(2000, 40)
            self.head = nn.Linear(40, 3)

        def forward(self, user: Tensor, item: Tensor, places: Tensor) -> Tensor:
            return self.head((self.item(item.clamp(min=0)) + self.user(user) + self.place(places)).mean(1))

    model, zeros = Pairs().eval(), torch.zeros(1, 4, dtype=torch.int64)
    given = (zeros, zeros, torch.arange(4)[None])
    assert tables_of_inputs(model, given, ["user", "item", "place"]) == {"user": 0, "item": 1}
    task = SimpleNamespace(model=model, example_inputs=given, train=object(), tokenizer=None)
    task.batches = lambda *_: [((zeros, torch.tensor([[5, 5, 7, -1]]), given[2]), None)]
    assert rarest_first(task, "item")[-2:] == [7, 5]


def test_a_position_table_has_no_vocabulary() -> None:
    class Places(Words):
        def forward(self, ids: Tensor) -> Tensor:
            return self.head(torch.relu(self.hidden(self.table(torch.arange(ids.shape[1])[None]).mean(1))))

    names = {unit.kind for unit in space_of(Places(), (ids(1),)).units if unit.target == "table"}
    assert names == {"rank", "bits"}


def test_rows_that_are_looked_up_count_more_and_full_rank_is_exact(
    made: tuple[Words, Space, dict[str, Moments], Effects],
) -> None:
    model, _, moments, _ = made
    table = model.table.weight.detach()
    for rank, most in ((FEATURES, 1e-5), (12, 0.1)):
        narrow, weight, bias = factor_table(table, moments["table"].matrix, rank)
        assert narrow.shape == (ROWS, rank)
        assert float((narrow @ weight.T + bias - table).norm() / table.norm()) < most
    seen = torch.zeros(ROWS, FEATURES)
    seen[: ROWS // 2, :4], seen[ROWS // 2 :, 4:] = torch.randn(ROWS // 2, 4), 5 * torch.randn(ROWS // 2, FEATURES - 4)
    model = Words()
    model.table.weight.data.copy_(seen)
    weighed = collect_moments(model, ["table"], [ids(200)])["table"]
    narrow, weight, bias = factor_table(seen, weighed.matrix, 40)
    error = (narrow @ weight.T + bias - seen).square().mean(1)
    narrow, weight, bias = factor_table(seen, None, 40)
    assert error[: ROWS // 2].mean() < (narrow @ weight.T + bias - seen).square().mean(1)[: ROWS // 2].mean()


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    export_both(Words().eval(), (ids(2),), {}, [ids(2)], tmp_path / "fp32.onnx", tmp_path / "m.onnx")
    linear = next(t.name for t in onnx.load(tmp_path / "m.onnx").graph.initializer if "hidden" in t.name)
    for name in (linear, "nothing"):
        with pytest.raises(ExportError, match="no table"):
            round_tables(tmp_path / "m.onnx", [name])
