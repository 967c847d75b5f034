"""The task: what it accepts, what it refuses, and what it draws."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, SubsetRandomSampler, TensorDataset

from coldpress.data import TensorData
from coldpress.errors import TaskError
from coldpress.logits import FirstOutput, tensor_output
from coldpress.task import Task

EXAMPLES = torch.zeros(1, 1, 6, 6)


def net(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, classes))


def images(count: int = 60, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.randn(count, 1, 6, 6, generator=generator), torch.arange(count) % 3)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.cat([a, b], dim=1))


class Returns(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.net, self.kind = net(), kind

    def forward(self, x: torch.Tensor) -> object:
        logits = self.net(x)
        return {"logits": logits} if self.kind is dict else (logits, x)


def test_calibration_is_drawn_from_train_by_the_seed() -> None:
    train = images()
    first, labels = Task(net(), EXAMPLES, train=train, validation=images(9, 1), seed=3).calibration(20)
    again, _ = Task(net(), EXAMPLES, train=train, validation=images(9, 1), seed=3).calibration(20)
    other, _ = Task(net(), EXAMPLES, train=train, validation=images(9, 1), seed=4).calibration(20)
    assert first[0].shape == (20, 1, 6, 6)
    assert labels.shape == (20,)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    pool = {row.numpy().tobytes() for row in train.tensors[0]}
    assert all(row.numpy().tobytes() in pool for row in first[0])


def test_calibration_is_not_augmented() -> None:
    pixels = torch.randint(0, 256, (40, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    train = TensorData(pixels, torch.arange(40) % 3, flip=True, pad=2)
    drawn, _ = Task(net(), EXAMPLES, train=train, validation=images(9, 1)).calibration(40)
    assert torch.equal(drawn[0].sum(0), (pixels.float() / 255)[torch.randperm(40)].sum(0)) or torch.allclose(
        drawn[0].sum(0), (pixels.float() / 255).sum(0), atol=1e-4
    )
    pool = {row.numpy().tobytes() for row in pixels.float() / 255}
    assert {row.numpy().tobytes() for row in drawn[0]} == pool


def test_train_alone_is_split_and_nothing_is_test() -> None:
    task = Task(net(), EXAMPLES, train=images(100))
    assert len(task.train) == 90
    assert len(task.validation) == 10
    assert task.report_split == "validation"
    assert not set(task.train.indices) & set(task.validation.indices)
    with pytest.raises(TaskError, match="no test data"):
        next(task.batches("test"))


def test_split_of_a_loader_keeps_the_way_it_loads() -> None:
    loader = DataLoader(images(100), batch_size=7, shuffle=True)
    task = Task(net(), EXAMPLES, train=loader)
    assert task.train.batch_size == 7
    assert sum(len(labels) for _, labels in task.batches("train")) == 90
    assert sum(len(labels) for _, labels in task.batches("validation")) == 10


def test_nothing_is_held_out_where_that_is_asked() -> None:
    task = Task(net(), EXAMPLES, train=images(), test=images(9, 1), hold_out=False)
    assert task.validation is None
    assert len(task.train) == 60
    assert task.report_split == "test"


def test_without_train_calibration_leaves_validation() -> None:
    task = Task(net(), EXAMPLES, validation=images(40), calibration_size=10)
    drawn, _ = task.calibration()
    held = {row.numpy().tobytes() for inputs, _ in task.batches("validation") for row in inputs[0]}
    assert len(drawn[0]) == 10
    assert len(held) == 30
    assert not held & {row.numpy().tobytes() for row in drawn[0]}


def test_several_inputs() -> None:
    data = TensorDataset(torch.randn(12, 2), torch.randn(12, 3), torch.arange(12) % 3)
    task = Task(TwoInputs(), (torch.zeros(1, 2), torch.zeros(1, 3)), train=data, validation=None)
    inputs, labels = task.calibration(4)
    assert [x.shape for x in inputs] == [(4, 2), (4, 3)]
    assert task.evaluate(task.model, "validation").samples == len(task.validation)
    assert labels.shape == (4,)


def test_a_tuple_is_wrapped_and_a_dict_refused() -> None:
    task = Task(Returns(tuple), EXAMPLES, train=images(), ignored_layers=["net.3"])
    assert isinstance(task.model, FirstOutput)
    assert task.model(EXAMPLES).shape == (1, 3)
    assert task.ignored_layers == ("model.net.3",)
    with pytest.raises(TaskError, match="returns a dict"):
        Task(Returns(dict), EXAMPLES, train=images())


def test_a_tensor_model_is_left_alone() -> None:
    model = net()
    assert Task(model, EXAMPLES, train=images()).model is model
    assert tensor_output(model, (EXAMPLES,)) is model


def test_the_same_object_is_refused() -> None:
    data = images()
    with pytest.raises(TaskError, match="train and test are the same"):
        Task(net(), EXAMPLES, train=data, test=data)
    with pytest.raises(TaskError, match="validation and test are the same"):
        Task(net(), EXAMPLES, validation=DataLoader(data), test=DataLoader(data, batch_size=2))


def test_shared_samples_are_counted_and_refused() -> None:
    train = images()
    test = TensorDataset(torch.cat([images(9, 1).tensors[0], train.tensors[0][5:12]]), torch.arange(16) % 3)
    with pytest.raises(TaskError, match="train and test overlap: 7 samples"):
        Task(net(), EXAMPLES, train=train, test=test)


def test_subsets_of_one_data_set_are_compared_by_index() -> None:
    data = images()
    with pytest.raises(TaskError, match="overlap: 10 samples"):
        Task(net(), EXAMPLES, train=Subset(data, range(40)), validation=Subset(data, range(30, 60)))
    loaders = [DataLoader(data, batch_size=8, sampler=SubsetRandomSampler(range(a, b))) for a, b in ((0, 40), (40, 60))]
    assert Task(net(), EXAMPLES, train=loaders[0], validation=loaders[1]).num_classes == 3


def test_shared_files_are_refused() -> None:
    class Files(Dataset[tuple[torch.Tensor, int]]):
        def __init__(self, names: list[str]) -> None:
            self.samples = [(name, i % 3) for i, name in enumerate(names)]

        def __len__(self) -> int:
            return len(self.samples)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.randn(1, 6, 6), self.samples[index][1]

    with pytest.raises(TaskError, match="train and test overlap: 2 samples"):
        Task(net(), EXAMPLES, train=Files(["a", "b", "c"]), test=Files(["b", "./c", "d"]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    model = net()
    model[3].bias.data[1] = value
    with pytest.raises(TaskError, match=r"'3\.bias' holds NaN or Inf"):
        Task(model, EXAMPLES, train=images())


def test_outputs_that_are_not_finite_are_refused() -> None:
    with pytest.raises(TaskError, match="outputs on example_inputs hold NaN"):
        Task(net(), torch.full((1, 1, 6, 6), float("inf")), train=images())


def test_labels_out_of_range_are_refused() -> None:
    data = TensorDataset(torch.randn(6, 1, 6, 6), torch.tensor([0, 1, 2, 3, 0, 1]))
    with pytest.raises(TaskError, match="label 3; the model has 3 outputs"):
        Task(net(), EXAMPLES, train=data, validation=images(9))
    with pytest.raises(TaskError, match="must be integers"):
        Task(net(), EXAMPLES, train=TensorDataset(torch.randn(6, 1, 6, 6), torch.rand(6)), validation=images(9))


def test_one_class_only_is_refused() -> None:
    data = TensorDataset(torch.randn(6, 1, 6, 6), torch.ones(6, dtype=torch.long))
    with pytest.raises(TaskError, match="all 6 labels of train are 1"):
        Task(net(), EXAMPLES, train=data, validation=images(9))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TaskError, match=r"does not run on example_inputs of shape \(1, 1, 9, 9\)"):
        Task(net(), torch.zeros(1, 1, 9, 9), train=images())
    convolution = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(TaskError, match="must be the same"):
        Task(convolution, torch.zeros(1, 1, 9, 9), train=images())
    with pytest.raises(TaskError, match=r"must be \(batch, 2 or more classes\)"):
        Task(nn.Conv2d(1, 3, 3), EXAMPLES, train=images())


@pytest.mark.parametrize(
    "data",
    [TensorDataset(torch.zeros(0, 1, 6, 6), torch.zeros(0)), [], DataLoader(images(3), batch_size=8, drop_last=True)],
    ids=["data set", "list", "loader"],
)
def test_empty_data_is_refused(data: object) -> None:
    with pytest.raises(TaskError, match="validation data is empty"):
        Task(net(), EXAMPLES, train=images(), validation=data)


def test_data_that_can_be_read_once_only_is_refused() -> None:
    with pytest.raises(TaskError, match="read more than once"):
        Task(net(), EXAMPLES, train=iter(DataLoader(images())))
    with pytest.raises(TaskError, match="is a dict"):
        Task(net(), EXAMPLES, train=[{"x": 1}])


def test_names_that_are_not_known_are_refused() -> None:
    with pytest.raises(TaskError, match="choose accuracy"):
        Task(net(), EXAMPLES, train=images(), metric="acuracy")
    with pytest.raises(TaskError, match="choose cross_entropy"):
        Task(net(), EXAMPLES, train=images(), loss="mse")
    with pytest.raises(TaskError, match="ignored layer '9' is not in the model"):
        Task(net(), EXAMPLES, train=images(), ignored_layers=["9"])


def test_metric_and_loss_may_be_callables() -> None:
    task = Task(
        net(),
        EXAMPLES,
        train=images(),
        metric=lambda logits, labels: float(len(labels)),
        loss=lambda logits, labels: logits.mean() * 0 + 2,
    )
    assert task.score(task.model) == len(task.validation)
    assert task.evaluate(task.model).loss == 2


def test_example_inputs_may_come_from_the_data() -> None:
    assert Task(net(), train=images()).example_inputs[0].shape == (1, 1, 6, 6)
    with pytest.raises(TaskError, match="no data to take a sample from"):
        Task(net())


def test_a_task_without_data_is_a_model_alone() -> None:
    task = Task(net(), EXAMPLES)
    with pytest.raises(TaskError, match="calibration needs train data"):
        task.calibration(4)


def test_one_class_only_is_found_when_labels_are_read() -> None:
    class Same(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 80

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.full((1, 6, 6), float(index)), 1

    task = Task(net(), EXAMPLES, train=Same(), validation=images(9, 1))
    with pytest.raises(TaskError, match="all 70 labels drawn for calibration are 1"):
        task.calibration(70)


def test_a_loader_that_draws_at_random_still_does_after_the_split() -> None:
    data = images(60)
    loader = DataLoader(data, batch_size=10, sampler=SubsetRandomSampler(range(60)))
    task = Task(net(), EXAMPLES, train=loader)
    first, second = (torch.cat([y for _, y in task.train]) for _ in range(2))
    assert not torch.equal(first, second)
