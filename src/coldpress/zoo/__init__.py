"""Models and data sets by name, for the command line and for trying things out."""

from coldpress.zoo.data import Splits, data, data_names
from coldpress.zoo.models import image_form, model, model_names, tokenizer
from coldpress.zoo.weights import load_weights, read_weights

__all__ = [
    "Splits",
    "data",
    "data_names",
    "image_form",
    "load_weights",
    "model",
    "model_names",
    "read_weights",
    "tokenizer",
]
