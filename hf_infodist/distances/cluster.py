"""The engine for clusters: a task of Ray per model and one per student, in one shared folder."""

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import torch

from hf_infodist.distances.cost import training_bytes
from hf_infodist.distances.plan import Plan, Worker
from hf_infodist.errors import NotFoundError
from hf_infodist.models.load import load_classifier
from hf_infodist.processes import make_accelerator

_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 10.0
_RETRIES = 5  # of a task whose worker or host has died
_LEAST_SHARE, _SPARE = 0.05, 1.5  # of a GPU; and how much more than the estimate is reserved


def work_on_ray(
    plan: Plan, address: str | None, on_block: Callable[[], None], setup: Callable[[], None] | None = None
) -> None:
    """Do what is missing on a cluster of Ray, whose hosts share the folder of the store.

    Arrays go by path, not through Ray. Workers are offline: this process has fetched every model before.

    Args:
        plan: The matrix.
        address: Of the cluster; one is started on this machine if None.
        on_block: Called often, with nothing.
        setup: Called first in each task; a function of a module.

    Raises:
        NotFoundError: If Ray is not installed, or there is no cluster at the address.
    """
    ray = _import_ray()
    variables = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if address:
        _check_cluster(address)
    options: dict[str, Any] = {"address": address} if address else {"num_cpus": os.cpu_count()}
    try:
        ray.init(**options, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise _no_cluster(address, error) from error
    try:
        _run_tasks(ray, plan, on_block, setup)
    finally:
        ray.shutdown()


def _check_cluster(address: str) -> None:
    """Refuse an address where nobody answers, which Ray would try for minutes; names such as ``auto`` are Ray's."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> NotFoundError:
    what, why = f"there is no cluster of Ray at {address!r}", (str(error) or type(error).__name__).splitlines()[0]
    return NotFoundError(what, why, "start one: ray start --head, or leave out --address")


def _run_tasks(ray: Any, plan: Plan, on_block: Callable[[], None], setup: Callable[[], None] | None) -> None:
    shared, missing = ray.put(plan), plan.missing
    run, teach = (ray.remote(max_retries=_RETRIES, num_cpus=1)(task) for task in (_run_model, _teach))
    models = plan.passes(missing)
    shares = {
        model: _gpu_share(plan, model) for model in {plan.directions[key][1] for key in missing} | {*models.values()}
    }
    runs = {}
    for outputs, model in models.items():
        keys = [key for key in missing if model in plan.directions[key]]
        runs[outputs] = run.options(num_gpus=shares[model]).remote(shared, model, keys, setup)
    by_student: dict[int, list[str]] = {}
    for key in missing:
        by_student.setdefault(plan.directions[key][1], []).append(key)
    waiting = []
    for student, keys in by_student.items():
        needed = {model for key in keys for model in plan.directions[key]}
        done = [runs[plan.entries[model].outputs] for model in sorted(needed)]
        waiting.append(teach.options(num_gpus=shares[student]).remote(shared, keys, setup, *done))
    while waiting:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_POLL_SECONDS)
        on_block()


def _run_model(plan: Plan, model: int, keys: list[str], setup: Callable[[], None] | None) -> None:
    """Run a model; on a worker."""
    worker = _worker(plan, setup)
    with worker.noting(keys):
        while not worker.run_model(model):
            time.sleep(_POLL_SECONDS)


def _teach(plan: Plan, keys: list[str], setup: Callable[[], None] | None, *done: None) -> None:
    """Compute what one student costs with its teachers, once all of them have run; on a worker.

    Whoever had it before may have died: then its claims go over to this worker, and its checkpoints.
    """
    worker = _worker(plan, setup)
    for key in keys:
        if key in plan.failures():
            continue
        with worker.noting([key]):
            while not worker.teach(key):
                time.sleep(_POLL_SECONDS)


def _worker(plan: Plan, setup: Callable[[], None] | None) -> Worker:
    if setup:
        setup()
    return Worker(plan, make_accelerator())


def _gpu_share(plan: Plan, model: int) -> float:
    """Return the part of a GPU that a student needs, in steps of a twentieth; 0 without GPUs."""
    if plan.device.type != "cuda":
        return 0.0
    needed = training_bytes(load_classifier(plan.entries[model].model), plan.protocol)
    memory = torch.cuda.get_device_properties(plan.device).total_memory
    return min(1.0, _LEAST_SHARE * -(-_SPARE * needed // (_LEAST_SHARE * memory)))


def _import_ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        what, why = "Ray is not installed", "--engine ray needs it, and nothing else in infodist does"
        raise NotFoundError(what, why, "pip install '.[ray]' in a clone, or pip install ray") from error
    return ray
