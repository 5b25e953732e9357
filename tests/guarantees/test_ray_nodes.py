"""``executor="ray"`` on a cluster of several nodes: where calls are made, and what becomes of a node that is gone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs
from tests.support.elsewhere import WITH_RAY, items

import tracekeeper as tk
from tracekeeper.evaluation.executors.on_ray import ray_executor

ray = pytest.importorskip("ray")
pytestmark = WITH_RAY


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A node of one processor at home, and one of two far away."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.far = made.add_node(num_cpus=2, resources={"far": 2})
    ray.init(address=made.address, logging_level="ERROR", log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def place_of(met: Path | None = None) -> Any:
    """A task that tells on which node it is, once calls have met on two of them."""

    def task(n: int) -> str:
        import ray

        node = str(ray.get_runtime_context().get_node_id())
        if met is not None:
            (met / node).touch()
            while len(os.listdir(met)) < 2:
                time.sleep(0.01)
        return node

    return task


def test_calls_are_spread_over_nodes_or_made_where_what_they_need_is(cluster: Any, keeper: Any, tmp_path: Path) -> None:
    far, home = cluster.far.node_id, cluster.head_node.node_id
    met = tmp_path / "met"
    met.mkdir()
    everywhere = tk.evaluate(items(40), place_of(met), executor="ray", concurrency=12, name="everywhere")
    assert {one.status for one in everywhere} == {"ok"}
    assert {one.output for one in everywhere} == {far, home}
    there = ray_executor(concurrency=4, timeout=30, retries=0, workers=2, options={"resources": {"far": 1}})
    assert {one.output for one in tk.evaluate(items(8), place_of(), executor=there, name="far")} == {far}


def test_what_no_node_has_ends_the_run_and_says_so(cluster: Any, keeper: Any) -> None:
    options = {"resources": {"nowhere": 1}}
    there = ray_executor(concurrency=4, timeout=30, retries=0, workers=2, options=options, start_within=2)
    began = time.monotonic()
    experiment = tk.evaluate(items(4), place_of(), executor=there, name="nowhere")
    assert time.monotonic() - began < 20
    assert {one.status for one in experiment} == {"pending"}
    assert experiment.notes == ["no Ray worker was ready within 2 s"]
    assert tk.resume("nowhere", task=place_of(), data=items(4), executor="ray").complete


STOPPED = """
import os, threading, time
import tracekeeper as tk
from tracekeeper.evaluation.executors.on_ray import ray_executor

place = os.getcwd()

def task(n):
    file = os.open(os.path.join(place, "account"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"x")
    os.close(file)
    if n >= 3:
        time.sleep(60)
    return str(n)

ITEMS = [{"id": f"i{n}", "n": n} for n in range(8)]
print("ready", flush=True)
try:
    tk.evaluate(ITEMS, task, name="run", executor=ray_executor(concurrency=2, timeout=90, retries=0, workers=1))
except KeyboardInterrupt as stop:
    left = [one.name for one in threading.enumerate() if one.name == "tracekeeper-elsewhere"]
    print(left, "aborted", stop.experiment_id, flush=True)
    tk.flush()
    os._exit(0)  # how Ray itself ends is not what is tested
"""


def test_a_second_ctrl_c_aborts_and_what_is_finished_is_kept(cluster: Any, tmp_path: Path) -> None:
    program = programs.start(STOPPED, tmp_path, RAY_ADDRESS=cluster.address)
    programs.ready(program)
    until = time.monotonic() + 60
    account = tmp_path / "account"
    while not account.exists() or account.stat().st_size < 5:  # three that end, and two that do not
        assert time.monotonic() < until
        time.sleep(0.01)
    stopped = time.monotonic()
    program.send_signal(signal.SIGINT)
    assert program.stderr is not None
    while "Ctrl-C" not in program.stderr.readline():  # it has heard of the first
        assert time.monotonic() - stopped < 30
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=30)
    assert time.monotonic() - stopped < 15
    assert program.returncode == 0, err
    left, said, name = out.split()[-3:]
    assert (left, said) == ("[]", "aborted"), err
    tk.configure(directory=tmp_path / ".tracekeeper")
    experiment = tk.Experiment.load(name)
    assert [one.output for one in experiment if one.status == "ok"] == ["0", "1", "2"]
    assert not experiment.complete
    assert tk.resume(name, task=lambda n: str(n), data=[{"id": f"i{n}", "n": n} for n in range(8)]).complete


def test_calls_of_a_node_that_dies_are_made_on_another_and_each_item_is_there_once(
    cluster: Any, keeper: Any, tmp_path: Path
) -> None:
    far = cluster.far.node_id
    met = tmp_path / "met"
    met.mkdir()

    def task(n: int) -> str:
        import ray

        node = str(ray.get_runtime_context().get_node_id())
        with tk.span("inside"):
            (met / node).touch()
            while node == far or len(os.listdir(met)) < 2:  # there a call never ends; here it waits for one there
                time.sleep(0.01)
        return str(n)

    def end_the_node() -> None:
        while not (met / far).exists():
            time.sleep(0.01)
        cluster.remove_node(cluster.far, allow_graceful=False)

    ending = threading.Thread(target=end_the_node, daemon=True)
    ending.start()
    there = ray_executor(concurrency=9, timeout=60, retries=0, start_within=60)
    experiment = tk.evaluate(items(24), task, executor=there, name="dies")
    ending.join(30)
    assert experiment.notes == []
    assert [(one.item_id, one.status, one.output) for one in experiment] == [(f"i{n}", "ok", str(n)) for n in range(24)]
    assert experiment.complete
    again = [one.attempts - 1 for one in experiment]
    assert sum(again) >= 1, "some were on the node"
    assert max(again) <= 2
    assert keeper.ship() is None
    records = tk.records(f'tag = "experiment:{experiment.id}"', limit=100)
    assert Counter(str(record.status) for record in records) == {"ok": 24, "interrupted": sum(again)}
