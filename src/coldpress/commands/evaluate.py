"""`coldpress evaluate`: accuracy, loss and latency of an artifact, an ONNX file or a model, and two compared."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from coldpress import scores, zoo
from coldpress.artifact import PROGRAM, load, weights_file
from coldpress.commands import evaluation_file
from coldpress.commands.subject import build_model, read_data, timing_example
from coldpress.commands.terminal import out
from coldpress.data import MemoryData, read_batches
from coldpress.deploy import time_files
from coldpress.errors import ArtifactError, TaskError
from coldpress.evaluate import Evaluation, Predict, compare, evaluate, predictor
from coldpress.network import logits_of
from coldpress.recipe import Recipe
from coldpress.report import formats
from coldpress.runtime.dynamic import depends_on_batch
from coldpress.runtime.sessions import run as run_session
from coldpress.runtime.sessions import session
from coldpress.splits import check_labels, class_names
from coldpress.task import EVALUATION_BATCH
from coldpress.windows import WindowData

FORMS = ("onnx", "torch")


@dataclass(frozen=True)
class Subject:
    """Something that predicts: an ONNX file or a torch model, and what it is called."""

    name: str
    file: Path | None = None
    model: nn.Module | None = None


def run(
    target: Path | None,
    form: str | None,
    recipe: Recipe,
    given: frozenset[str],
    split: str,
    as_json: bool,
    against: str | None = None,
    place: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Evaluate, print, and write what was asked for.

    Args:
        target: an artifact's folder, an ONNX file, or None for ``recipe.model``.
        form: "onnx" or "torch"; None takes what there is, ONNX first.
        recipe: model, data and so on.
        given: the recipe's fields that the user gave; an artifact's own recipe fills in the others.
        split: "test", "validation" or "train".
        as_json: print JSON instead of a table.
        against: an artifact's folder, an ONNX file or a model's name to compare with on the same samples.
        place: a .csv or .json file to write.
        overwrite: replace it where it exists.
    """
    if place is not None:
        evaluation_file.check_place(place, overwrite)
    if form is not None and form not in FORMS:
        raise TaskError(f"form {form!r} is unknown; choose onnx or torch")
    if target is not None:
        _check(target)
        if (target / "recipe.yaml").is_file():
            own = Recipe.read(target / "recipe.yaml")
            recipe = replace(own, **{name: getattr(recipe, name) for name in given})
    splits = read_data(recipe)
    part = _part(splits, split, given)
    subject = _subject(target, form, recipe, splits)
    example = timing_example(part[1], recipe.tokens)
    other = None if against is None else _other(against, recipe, splits)
    if place is not None:
        evaluation_file.check_classes(
            place, int(_predictor(subject)(example).shape[-1]), isinstance(part[1], WindowData)
        )
    found = _evaluate(subject, part[1], part[0], example, recipe.batch)
    sides = {"subject": found}
    latency = _latency(subject, example, recipe)
    facts = {
        "subject": subject.name,
        "data": recipe.data,
        "split": part[0],
        "samples": found.samples,
        "accuracy": found.accuracy,
        "accuracy_interval": list(found.accuracy_interval),
        "loss": found.loss,
        "perplexity": found.perplexity if isinstance(part[1], WindowData) else None,
        "scores": {} if isinstance(part[1], WindowData) else scores.summary(found),
        "latency_ms": latency,
    }
    if other is not None:
        sides["against"] = _evaluate(other, part[1], part[0], example, recipe.batch)
        facts["comparison"] = {
            "against": other.name,
            "accuracy": sides["against"].accuracy,
            **asdict(compare(sides["against"], found)),
        }
    if as_json:
        out.print_json(json.dumps(facts))
    else:
        out.print(_table(facts))
    if place is not None:
        evaluation_file.write(place, facts, sides, class_names(part[1]), isinstance(part[1], WindowData))


def _part(splits: zoo.Splits, split: str, given: frozenset[str]) -> tuple[str, Any]:
    """The data of the split asked for. Raises TaskError when there is none."""
    names = {"test": splits.test, "validation": splits.validation, "train": splits.train}
    if split not in names:
        raise TaskError(f"split {split!r} is unknown; choose test, validation or train")
    if names[split] is None:
        have = ", ".join(name for name, data in names.items() if data is not None)
        raise TaskError(f"this data has no {split} part; it has {have}: give one of them with --split")
    return split, names[split]


def _other(against: str, recipe: Recipe, splits: zoo.Splits) -> Subject:
    """What ``--against`` names; a model of the recipe's name has the recipe's weights."""
    path = Path(against)
    if path.exists() or path.suffix == ".onnx":
        _check(path)
        return _subject(path, None, recipe, splits)
    same = against == recipe.model
    weights, outputs = (recipe.weights, recipe.num_classes) if same else (None, None)
    return Subject(against, model=build_model(against, weights, outputs, splits))


def _check(target: Path) -> None:
    """Refuse what is neither an artifact's folder nor a file, with the command that would do."""
    named = str(target).startswith(("hf:", "torchvision:", "timm:"))
    artifact = any((target / name).is_file() for name in ("recipe.yaml", "model.onnx"))
    if named or ((target / "config.json").is_file() and not artifact):
        model = target if named else f"hf:{target}"
        raise ArtifactError(f"{target} is a model, no artifact: coldpress evaluate --model {model} --data NAME")
    if not target.exists():
        raise ArtifactError(f"there is nothing at {target}; give an artifact's folder or an ONNX file")


def _subject(target: Path | None, form: str | None, recipe: Recipe, splits: zoo.Splits) -> Subject:
    if target is None:
        if form == "onnx":
            raise TaskError("--form onnx needs a file or an artifact: coldpress evaluate FOLDER, or FILE.onnx")
        return Subject(str(recipe.model), model=build_model(recipe.model, recipe.weights, recipe.num_classes, splits))
    if target.is_file() or target.suffix == ".onnx":
        if form == "torch":
            raise TaskError(f"{target} is one file; --form torch needs the artifact's folder, or --model and --weights")
        return Subject(str(target), file=target)
    if form != "torch":
        return Subject(str(target / "model.onnx"), file=target / "model.onnx")
    if recipe.model is None:
        if not (target / PROGRAM).is_file():
            raise ArtifactError(f"{target} holds no {PROGRAM} and names no model: give --model")
        return Subject(str(target / PROGRAM), model=load(target))
    name, outputs = recipe.model, recipe.num_classes
    model = load(target, lambda: build_model(name, "random", outputs, splits))
    return Subject(str(weights_file(target)), model=model)


def _evaluate(subject: Subject, data: Any, split: str, example: tuple[Tensor, ...], batch: int) -> Evaluation:
    predict = _predictor(subject)
    together = subject.file is None or not depends_on_batch(subject.file)
    outputs = int(predict(example).shape[-1])
    order = data.alike() if isinstance(data, MemoryData) else None
    sorted_data = data if order is None else data.subset(order)

    def batches() -> Any:
        for inputs, labels in read_batches(sorted_data, EVALUATION_BATCH if together else batch):
            check_labels(split, labels, outputs)
            yield inputs, labels

    found = evaluate(predict, batches())
    return found if order is None else found.reordered(order.argsort())


def _predictor(subject: Subject) -> Predict:
    if subject.model is not None:
        run_model = predictor(subject.model) if hasattr(subject.model, "training") else subject.model

        def checked(inputs: tuple[Tensor, ...]) -> Tensor:
            try:
                return run_model(inputs)
            except (RuntimeError, ValueError) as error:
                shapes = [tuple(x.shape) for x in inputs]
                raise TaskError(f"{subject.name} does not run on inputs of shapes {shapes}: {error}") from error

        return checked
    assert subject.file is not None
    running = session(subject.file, threads=max(1, torch.get_num_threads()))
    return lambda inputs: logits_of(torch.from_numpy(np.asarray(run_session(running, [x.numpy() for x in inputs])[0])))


def _latency(subject: Subject, example: Sequence[Tensor], recipe: Recipe) -> dict[str, Any]:
    if subject.file is not None:
        timed = time_files({"it": subject.file}, example, threads=recipe.threads, batch=recipe.batch, max_seconds=5.0)
        return timed["it"].summary()
    assert subject.model is not None
    return time_torch(subject.model, example, recipe.threads, recipe.batch)


def time_torch(
    model: nn.Module, example: Sequence[Tensor], threads: int, batch: int, repeats: int = 100, seconds: float = 5.0
) -> dict[str, Any]:
    """Milliseconds of a model's forward pass in PyTorch, not compiled; as `Timing.summary` gives them."""
    inputs = [x[:1].repeat(batch, *[1] * (x.dim() - 1)) for x in example]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    samples: list[float] = []
    try:
        with torch.inference_mode():
            for _ in range(5):
                logits_of(model(*inputs))
            start = time.perf_counter()
            while len(samples) < repeats and (len(samples) < 10 or time.perf_counter() - start < seconds):
                begin = time.perf_counter_ns()
                model(*inputs)
                samples.append((time.perf_counter_ns() - begin) / 1e6)
    finally:
        torch.set_num_threads(before)
    q1, median, q3 = (float(value) for value in np.percentile(samples, [25, 50, 75]))
    return {
        "median": median,
        "spread": q3 - q1,
        "batch": batch,
        "threads": threads,
        "runtime": f"torch {torch.__version__}",
        "repeats": len(samples),
    }


def _table(facts: dict[str, Any]) -> Table:
    latency = facts["latency_ms"]
    table = Table(show_header=False, title=facts["subject"], title_style="dim")
    plural = "" if latency["threads"] == 1 else "s"
    conditions = f"{latency['runtime']}, batch {latency['batch']}, {latency['threads']} thread{plural}"
    table.add_row("data", f"{facts['data']} ({facts['split']}, {facts['samples']:,} samples)")
    table.add_row("accuracy", formats.percent(facts["accuracy"], 2))
    table.add_row("95 % interval", formats.interval(facts["accuracy_interval"]))
    if facts["perplexity"] is not None:
        table.add_row("perplexity", formats.three(facts["perplexity"]))
    for name, value in facts["scores"].items():
        words = "area under the ROC curve" if name == "roc_auc" else f"{name.upper() if name == 'f1' else name}, mean"
        table.add_row(words, formats.percent(value, 2))
    if "comparison" in facts:
        for row in _comparison(facts["comparison"]):
            table.add_row(*row)
    table.add_row("loss", formats.three(facts["loss"]))
    table.add_row("latency, median", f"{formats.milliseconds(latency['median'])} ({conditions})")
    table.add_row("latency, spread", f"{formats.milliseconds(latency['spread'])} of {latency['repeats']} runs")
    return table


def _comparison(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of the paired comparison; differences are the subject's accuracy less the other's."""
    lost, gained = found["discordant"]
    names = {"difference_interval": "its 95 % interval", "bootstrap_interval": "its 95 % interval, bootstrap"}
    edges = {words: [formats.signed(edge) for edge in found[name]] for name, words in names.items()}
    return [
        ("against", f"{found['against']}, accuracy {formats.percent(found['accuracy'], 2)}"),
        ("difference", f"{formats.signed(found['difference'])} points"),
        *((words, f"{low} to {high} points") for words, (low, high) in edges.items()),
        ("exact McNemar test", f"{formats.p_value(found['p_value'])}; right alone: {gained:,}, the other {lost:,}"),
    ]
