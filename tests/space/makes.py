"""Small transformers of many makes, with random weights, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

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
