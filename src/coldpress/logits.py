"""Models that return logits: checked on example inputs, and wrapped where they return more."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coldpress.errors import TaskError
from coldpress.network import first_tensor


class FirstOutput(nn.Module):
    """A model that returns a tuple, or an object with logits, made to return its first tensor, or these.

    The model itself is ``.model``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return first_tensor(self.model(*inputs))


def tensor_output(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> nn.Module:
    """The model itself where it returns a tensor in eval mode, else the model in `FirstOutput`."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            output = model(*example_inputs)
    finally:
        model.train(training)
    first_tensor(output)
    return model if isinstance(output, Tensor) else FirstOutput(model)


def checked_model(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> nn.Module:
    """The model in eval mode, returning logits. Raises TaskError where it does not, or not on these inputs."""
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise TaskError(f"the model's tensor {name!r} holds NaN or Inf; load weights that do not")
    shapes = ", ".join(str(tuple(x.shape)) for x in example_inputs)
    try:
        wrapped = tensor_output(model, example_inputs)
        with torch.no_grad():
            logits = wrapped.eval()(*example_inputs)
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(f"the model does not run on example_inputs of shape {shapes}: {error}") from error
    if logits.dim() not in (2, 3) or len(logits) != len(example_inputs[0]) or logits.shape[-1] < 2:
        raise TaskError(
            f"the model's output is {tuple(logits.shape)} for inputs {shapes}; it must be (batch, 2 or more classes), "
            "or (batch, tokens, 2 or more classes) for a decoder"
        )
    if not torch.isfinite(logits).all():
        raise TaskError("the model's outputs on example_inputs hold NaN or Inf; check its weights and the inputs")
    return wrapped
