"""Where work runs, by name."""

import os

import pytest

from coldpress.errors import TaskError
from coldpress.executors import THREADS, open_executor


def fails():
    raise ValueError("inside")


def test_in_this_process_results_and_errors_come_as_futures():
    with open_executor("none") as executor:
        assert executor.submit(sum, [1, 2]).result() == 3
        assert isinstance(executor.submit(fails).exception(), ValueError)


def test_processes_are_others_with_one_thread_each():
    before = {name: os.environ.get(name) for name in THREADS}
    with open_executor("processes", 1) as executor:
        assert executor.submit(os.getpid).result() != os.getpid()
        assert [executor.submit(os.getenv, name).result() for name in THREADS] == ["1"] * len(THREADS)
    assert {name: os.environ.get(name) for name in THREADS} == before


def test_a_dask_cluster_is_an_executor():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        open_executor(f"dask:{cluster.scheduler_address}") as executor,
    ):
        assert executor.submit(sum, [1, 2]).result() == 3


@pytest.mark.parametrize("name", ["proceses", "dask:", "ray"])
def test_unknown_executors_are_told(name):
    with pytest.raises(TaskError, match="dask:ADDRESS"), open_executor(name):
        pass


def test_fewer_than_one_process_is_refused():
    with pytest.raises(TaskError, match="processes is 0"), open_executor("processes", 0):
        pass
