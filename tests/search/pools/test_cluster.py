"""A Ray cluster of this machine: a worker that dies, a node that joins later, a head that is not there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekd.errors import EnvironmentFault, InputError
from edgekd.search.pools import cluster
from edgekd.search.pools.cluster import Cluster
from edgekd.search.pools.contract import Asked, Job
from tests.search.pools import short
from tests.search.pools.test_processes import searched, starts


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentFault) as caught:
        Cluster(short.work(tmp_path), "auto", 1)
    assert str(caught.value) == "search.ray: needs Ray, which is not installed: pip install 'edgekd[cluster]'"


def test_nobody_at_the_address(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(EnvironmentFault) as caught, Cluster(short.work(tmp_path), "localhost:1", 1):
        pass
    assert str(caught.value) == (
        "search.ray: no Ray cluster answers at localhost:1; start it ('ray start --head'; docs/clusters.md), or leave "
        "search.ray out"
    )


def test_questions_that_come_late_are_not_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The desk gives each list once: an answer that took too long is waited for again, not asked for again."""

    class Late(Exception):
        pass

    asked, answers = [], iter([Late(), [(4, 1, 0.2)], [(5, 2, 0.3)]])

    def get(reference: int, timeout: float) -> Any:
        answer = next(answers)
        if isinstance(answer, Late):
            raise answer
        return answer

    exceptions = SimpleNamespace(GetTimeoutError=Late, RayError=Late)
    monkeypatch.setattr(cluster, "require_ray", lambda: SimpleNamespace(get=get, exceptions=exceptions))
    pool = Cluster(short.work(tmp_path), "auto", 1)
    pool._desk = SimpleNamespace(waiting=SimpleNamespace(remote=lambda: asked.append(1) or len(asked)))
    found = [pool._questions() for _ in range(3)]
    assert found == [[], [Asked(4, 1, 0.2)], [Asked(5, 2, 0.3)]]
    assert len(asked) == 2


@pytest.fixture
def nodes() -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000})
    yield made
    made.shutdown()


class Meanwhile(Cluster):
    """Something happens when a trial begins."""

    at: int
    happens: Callable[[], None]

    def start(self, number: int, job: Job) -> None:
        super().start(number, job)
        if number >= self.at:
            self.at = 1_000
            self.happens()


@pytest.mark.slow
def test_a_worker_that_is_killed_and_a_node_that_joins_later(nodes: Any, tmp_path: Path) -> None:
    def join() -> None:
        nodes.add_node(num_cpus=1, object_store_memory=80_000_000)

    pool = Meanwhile(short.work(tmp_path, seconds=0.5, die=[1]), nodes.address, 1)
    pool.at, pool.happens = 3, join
    tried, said = searched(tmp_path, pool, 12, sampler="random")
    assert [one.number for one in tried] == list(range(12))
    assert any(line.startswith("trial 1: its worker is gone (") for line in said)
    assert len(starts(tmp_path, 1)) == 2
    assert pool._room == 2, "the second node took part"


@pytest.mark.slow
def test_no_node_is_large_enough(nodes: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has the 64 CPU of a trial; add a node"):
        Cluster(short.work(tmp_path), nodes.address, 64).__enter__()
    assert not cluster.require_ray().is_initialized()


@pytest.mark.slow
def test_a_head_that_goes_away_and_another_with_which_the_study_goes_on(nodes: Any, tmp_path: Path) -> None:
    pool = Meanwhile(short.work(tmp_path, seconds=1), nodes.address, 1)
    pool.at, pool.happens = 2, nodes.head_node.kill_gcs_server
    with pytest.raises(EnvironmentFault, match=r"the head at .* is gone; start the cluster again"):
        searched(tmp_path, pool, 50, sampler="random")
    cluster.require_ray().shutdown()
    nodes.shutdown()
    from ray.cluster_utils import Cluster as Nodes

    again = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000})
    try:
        tried, _ = searched(tmp_path, Cluster(short.work(tmp_path), again.address, 1), 4, most=50, sampler="random")
    finally:
        again.shutdown()
    assert len(tried) >= 4 and len(starts(tmp_path, 0)) == 1
