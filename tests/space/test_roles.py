"""Transformers of many makes: heads and neurons are found, go together, and the smaller network runs everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coldpress.plan import Plan
from coldpress.runtime import export, run, session
from coldpress.space import find_space
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.structure import rebuild

transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")
from coldpress.zoo.huggingface import TextModel, as_linears  # noqa: E402

COMMON = {"vocab_size": 100, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}
COMMON |= {"intermediate_size": 48, "max_position_embeddings": 32, "pad_token_id": 1, "initializer_range": 0.3}
MAKES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("BertConfig", {}),
    "RoBERTa": ("RobertaConfig", {}),
    "DistilBERT": ("DistilBertConfig", {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}),
    "OPT": ("OPTConfig", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "GPT-2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "n_positions": 32}),
    "Llama": ("LlamaConfig", {"num_key_value_heads": 2}),
    "Qwen2": ("Qwen2Config", {"num_key_value_heads": 2}),
}


class Images(nn.Module):
    """A classifier of images of transformers, as a module that returns logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


def texts(make: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    name, own = MAKES[make]
    torch.manual_seed(0)
    config = getattr(transformers, name)(**COMMON | own)
    model = transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa").eval()
    as_linears(model)
    ids = torch.randint(5, 100, (3, 12))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    return TextModel(model).eval(), (ids, mask)


def pictures() -> tuple[nn.Module, tuple[Tensor, ...]]:
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 32, "intermediate_size": 48, "initializer_range": 0.3}
    config = transformers.ViTConfig(num_hidden_layers=2, num_attention_heads=4, **sizes)
    torch.manual_seed(0)
    return Images(transformers.ViTForImageClassification(config)).eval(), (torch.randn(2, 3, 16, 16),)


def fused(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    timm = pytest.importorskip("timm", reason="needs the extra coldpress[timm]")
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "num_heads": 4, "depth": 2, "num_classes": 5}
    return timm.create_model(name, **sizes).eval(), (torch.randn(2, 3, 16, 16),)


SUBJECTS: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    **{make: lambda make=make: texts(make) for make in MAKES},  # type: ignore[misc]
    "ViT": pictures,
    "ViT with fused queries, keys and values": lambda: fused("vit_tiny_patch16_224"),
    "DeiT of timm": lambda: fused("deit_tiny_patch16_224"),
    "DeiT of timm with a distilled head": lambda: fused("deit_tiny_distilled_patch16_224"),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_half_of_the_heads_and_neurons_go_and_the_network_runs_everywhere(name: str, tmp_path: Path) -> None:
    model, inputs = SUBJECTS[name]()
    task = SimpleNamespace(model=model, example_inputs=inputs, ignored_layers=())
    space = find_space(task, ["width", "depth"])
    groups = [group for unit, group in space.groups.items() if "pooler" not in unit and "classifier" not in unit]
    heads = [group for group in groups if group.atom == 8]
    neurons = [group for group in groups if group.channels in (48, 128)]
    assert (len(heads), len(neurons)) == (2, 2)
    assert sum(unit.kind == "depth" for unit in space.units) == 2
    kept, choices = {}, {}
    for group in (*heads, *neurons):
        unit = space.unit(f"{group.name}:width")
        half = min(unit.options[1:], key=lambda option, size=group.channels: abs((option.channels or 0) - size // 2))
        choices[unit.name], count = half.label, half.channels or 0
        kept[unit.name] = tuple(range(group.channels - count, group.channels))
    small, plan = apply_plan(model, space, Plan(choices, kept))
    masked, _ = SUBJECTS[name]()
    with torch.no_grad():
        for group in (*heads, *neurons):
            gone = np.setdiff1d(np.arange(group.channels), kept[f"{group.name}:width"])
            for member in group.of_role("in"):
                masked.get_submodule(member.module).get_parameter("weight")[:, member.index[gone].ravel()] = 0.0
        wanted = masked(*inputs)
        torch.testing.assert_close(small(*inputs), wanted, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(wanted, model(*inputs), atol=1e-3)
        fresh, _ = SUBJECTS[name]()
        rebuild(fresh, plan.structure)
        fresh.load_state_dict(small.state_dict())
        torch.testing.assert_close(fresh(*inputs), small(*inputs))
        file = session(export(small, inputs, tmp_path / "small.onnx"))
        found = run(file, [tensor.numpy() for tensor in inputs])[0]
    np.testing.assert_allclose(found, small(*inputs).detach().numpy(), rtol=1e-3, atol=1e-3)
