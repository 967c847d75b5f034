"""Attention hints compare where a compressed transformer attends with where the original does, head by head."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.errors import TaskError
from coldpress.plan import Plan, Space
from coldpress.recovery import Settings, check_attention, distil, kept_heads
from coldpress.recovery.attention import AttentionHints, attention_modules
from coldpress.recovery.relations import Attended, attention_distance
from coldpress.space import find_space
from coldpress.surgery.apply import apply_plan
from coldpress.task import Task
from coldpress.tokens import TokenData
from tiny import Projected


class Attention(nn.Module):
    """Self-attention of some heads of four features."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, 4 * heads) for _ in range(3))
        self.out = nn.Linear(4 * heads, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(2, (-1, 4)).transpose(1, 2) for f in (self.query, self.key, self.value))
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :].bool())
        return self.out(found.transpose(1, 2).flatten(2))


class Reader(nn.Module):
    """Words, two layers of attention, the mean of the real words."""

    def __init__(self, heads: tuple[int, int] = (4, 4), width: int = 8, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words = nn.Embedding(12, width)
        self.first, self.second = Attention(width, heads[0]), Attention(width, heads[1])
        self.head = nn.Linear(width, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.first(x, mask)
        x = x + self.second(x, mask)
        return self.head((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def texts(count: int = 48) -> TokenData:
    draw = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, 7, (count,), generator=draw).tolist()
    ids = tuple(torch.randint(1, 12, (length,), generator=draw) for length in lengths)
    return TokenData(ids, torch.tensor([int(3 in row or 5 in row) for row in ids]))


def task_of(model: nn.Module) -> Task:
    return Task(model.eval(), train=texts(), hold_out=False)


def distance(student: nn.Module, teacher: nn.Module, kept: dict[str, Tensor] | None = None) -> float:
    ids, mask, _ = next(texts().batches(16))
    with AttentionHints(student, teacher, ("first", "second"), kept or {}) as inside, torch.no_grad():
        student.training = True  # taken while a student trains
        student(ids, mask), teacher(ids, mask)
        found = float(inside.distance())
        student.training = False
        student(ids, mask), teacher(ids, mask)
        assert inside.distance() == 0.0
    assert "forward" not in student.first.__dict__
    return found


def vectors(heads: int, seed: int, tokens: int = 5, features: int = 4) -> Tensor:
    return 2 * torch.randn(2, heads, tokens, features, generator=torch.Generator().manual_seed(seed))


def attended(heads: int, seed: int = 0, **more: Any) -> Attended:
    parts = (vectors(heads, seed + i, features=more.get("features", 4)) for i in range(3))
    return Attended(*parts, more.get("mask"), more.get("causal", False), more.get("scale"))


def test_the_modules_that_attend_are_found() -> None:
    model = Reader()
    ids, mask, _ = next(texts().batches(2))
    assert attention_modules(model, (ids, mask)) == ("first", "second")


def test_a_network_attends_as_itself_and_not_as_another() -> None:
    model = Reader()
    assert distance(copy.deepcopy(model), model) == pytest.approx(0.0, abs=1e-6)
    assert distance(Reader(seed=1), model) > 1e-3
    assert distance(Reader((2, 3), width=6, seed=1), model) > 1e-3  # other widths are related


def test_the_divergence_is_that_of_what_attention_computes() -> None:
    mask = torch.zeros(2, 1, 5, 5).masked_fill(
        torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.3, -torch.inf
    )
    mask[..., 0] = 0.5
    a, b = (attended(3, seed, mask=mask, scale=0.7) for seed in (0, 10))
    weights = [
        F.scaled_dot_product_attention(x.query, x.key, torch.eye(5).expand(2, 3, 5, 5), mask, scale=0.7) for x in (a, b)
    ]
    values = [
        F.scaled_dot_product_attention(x.value, x.value, torch.eye(5).expand(2, 3, 5, 5), mask > -1) for x in (a, b)
    ]
    expected = (
        sum(
            F.kl_div(own.clamp(min=1e-30).log(), want, reduction="sum") / (2 * 3 * 5) for own, want in (weights, values)
        )
        / 2
    )
    assert float(attention_distance(a, b)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("heads", [3, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_does_not_count(heads: int, causal: bool) -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)[:, None, None, :]
    a, b = attended(heads, mask=mask, causal=causal), attended(3, 10, mask=mask, causal=causal)
    before = attention_distance(a, b)
    for tensor in (a.query, a.key, a.value, b.query, b.key, b.value):
        tensor[0, :, 3:] = 7 * torch.randn(tensor.shape[1], 2, 4)
    assert attention_distance(a, b) == pytest.approx(float(before), rel=1e-5)
    a.key[0, :, 2:3] += 1.0
    assert attention_distance(a, b) != pytest.approx(float(before), rel=1e-5)


def test_what_is_later_is_not_compared_where_attention_is_causal() -> None:
    a, b = attended(3, causal=True), attended(3, 10, causal=True)
    both = [Attended(x.query[:, :, :4], x.key[:, :, :4], x.value[:, :, :4], None, True, None) for x in (a, b)]
    for x in (a, b):
        x.query[:, :, 4] = x.key[:, :, 4] = x.value[:, :, 4] = 0.0  # the last token is alike on both sides
    alike = float(attention_distance(*both)) * 4 / 5
    assert float(attention_distance(a, b)) >= alike - 1e-5


def test_kept_heads_are_compared_with_the_same_heads_of_the_teacher() -> None:
    teacher = attended(4)
    student = teacher.of_heads(torch.tensor([True, False, True, False]))
    assert float(attention_distance(student, teacher, torch.tensor([True, False, True, False]))) == pytest.approx(0.0)
    assert float(attention_distance(student, teacher, torch.tensor([False, True, True, False]))) > 0.01
    assert float(attention_distance(student, teacher)) > 0.0  # related where nothing is known


def test_keys_that_queries_share_go_with_them() -> None:
    teacher = Attended(vectors(4, 0), vectors(2, 1), vectors(2, 2), None, False, None)
    student = Attended(teacher.query[:, 2:], teacher.key[:, 1:], teacher.value[:, 1:], None, False, None)
    assert float(attention_distance(student, teacher, torch.tensor([False, True]))) == pytest.approx(0.0)
    assert float(attention_distance(student, teacher, torch.tensor([True, False]))) > 0.01


def pruned(model: Reader, task: Task) -> tuple[nn.Module, Space, Plan]:
    """The model with heads 1 and 2 of its last attention alone."""
    space = find_space(task, ("width",))
    name = next(n for n, g in space.groups.items() if g.atom == 4 and n.startswith("second"))
    kept = {name: tuple(range(4, 12))}
    label = next(option.label for option in space.unit(name).options if option.channels == 8)
    student, plan = apply_plan(model, space, Plan({name: label}, kept))
    return student, space, plan


def test_heads_that_surgery_leaves_are_named_and_attend_as_before() -> None:
    model = Reader().eval()
    student, space, plan = pruned(model, task_of(model))
    kept = kept_heads(space, plan)
    assert kept["second"].tolist() == [False, True, True, False]
    assert kept["first"].all()
    assert distance(student, model, kept) == pytest.approx(0.0, abs=1e-6)
    assert distance(student, model) > 1e-4


def test_training_with_attention_keeps_it_closer_than_training_without() -> None:
    teacher, found = Reader().eval(), []
    for weight in (0.0, 5.0):
        student = Reader((2, 4), seed=1)
        distil(student, teacher, task_of(teacher), Settings(epochs=6, lr=0.05, batch_size=16), attention_weight=weight)
        found.append(distance(student, teacher))
    assert found[1] < 0.7 * found[0]


def test_where_nothing_attends_there_is_nothing_to_teach() -> None:
    model = Projected().eval()
    with pytest.raises(TaskError, match="no attention to teach"):
        check_attention(model, (torch.zeros(1, 3, 16, 16),))
    teacher = Reader().eval()
    task, settings = task_of(teacher), Settings(epochs=1)
    with pytest.raises(TaskError, match="attention_weight"):
        distil(Reader(), teacher, task, settings, attention_weight=-1.0)
    other = nn.Module()
    other.inner, other.forward = Reader(), lambda *inputs: other.inner(*inputs)  # type: ignore[method-assign]
    with pytest.raises(TaskError, match=r"inner\.first"):
        distil(other, teacher, task, settings, attention_weight=1.0)


@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "GPT2", "Llama"])
def test_heads_are_named_by_the_modules_that_attend_in_transformers(kind: str) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")
    from coldpress.zoo.huggingface import TextModel, as_linears

    sizes = {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 24}
    if kind == "DistilBert":
        sizes = {"dim": 16, "n_heads": 4, "n_layers": 2, "hidden_dim": 24}
    elif kind == "GPT2":
        sizes = {"n_embd": 16, "n_head": 4, "n_layer": 2, "n_inner": 24}
    elif kind == "Llama":
        sizes["num_key_value_heads"] = 2
    config = getattr(transformers, f"{kind}Config")(vocab_size=50, max_position_embeddings=16, pad_token_id=0, **sizes)
    torch.manual_seed(0)
    network = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    as_linears(network)
    task = Task(TextModel(network).eval(), train=texts(), hold_out=False)
    space, modules = find_space(task, ("width",)), attention_modules(task.model, task.example_inputs)
    kept = kept_heads(space, Plan())
    assert len(modules) == 2
    assert set(modules) == set(kept)
    assert {len(heads) for heads in kept.values()} == {2 if kind == "Llama" else 4}
    ids, mask, _ = next(texts().batches(4))
    student = copy.deepcopy(task.model)
    for scale in (1.0, 1.5):
        with AttentionHints(student, task.model, modules, kept) as inside, torch.no_grad():
            student.training = True
            student(ids, mask), task.model(ids, mask)
            assert (float(inside.distance()) < 1e-6) == (scale == 1.0)
            for parameter in student.parameters():
                parameter.mul_(1.5)
