"""Several devices on one machine: made up here, their locks real."""

import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from snakemake.api import OutputSettings, ResourceSettings, SnakemakeApi
from snakemake.settings.enums import Quietness

from dmemm import device
from dmemm.device import choose_device
from dmemm.errors import UserError
from workflow.pipeline import gpus

from .checkout import copy_tracked


@pytest.fixture
def three_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DMEMM_DEVICE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    show(monkeypatch, ["GPU-a", "GPU-b", "GPU-c"])
    yield
    device._free_device.cache_clear()


def show(monkeypatch: pytest.MonkeyPatch, uuids: list[str]) -> None:
    """Let torch see devices of these names, as CUDA_VISIBLE_DEVICES would."""
    device._free_device.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuids[index]))
    monkeypatch.setattr(torch.cuda, "set_device", lambda chosen: None)


class Job:
    """Another process that has chosen a device, and keeps it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        told, tell = context.Pipe(duplex=False)
        self._process = context.Process(target=self._run, args=(tell,), daemon=True)
        self._process.start()
        self.device = told.recv()

    @staticmethod
    def _run(tell: Any) -> None:
        tell.send(str(choose_device()))
        multiprocessing.Event().wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@pytest.mark.usefixtures("three_devices")
def test_jobs_take_a_device_each_and_one_that_a_killed_job_had(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [Job() for _ in range(3)]
    try:
        assert [job.device for job in jobs] == ["cuda:0", "cuda:1", "cuda:2"]
        jobs.append(Job())  # one too many shares
        assert jobs[3].device in ("cuda:0", "cuda:1", "cuda:2")
        jobs[1].kill()
        show(monkeypatch, ["GPU-c", "GPU-b"])  # as CUDA_VISIBLE_DEVICES=2,1: other numbers, the same devices
        jobs.append(Job())
        assert jobs[4].device == "cuda:1"
    finally:
        for job in jobs:
            job.kill()


@pytest.mark.usefixtures("three_devices")
def test_a_process_keeps_its_device_and_dmemm_device_overrules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device() == choose_device() == torch.device("cuda:0")
    monkeypatch.setenv("DMEMM_DEVICE", "cuda:2")
    assert choose_device() == torch.device("cuda:2")
    monkeypatch.setenv("DMEMM_DEVICE", "cpu")
    assert choose_device() == torch.device("cpu")
    for name, message in (("cuda:3", "no such CUDA device"), ("mps", "not supported"), ("tpu9", "no such device")):
        monkeypatch.setenv("DMEMM_DEVICE", name)
        with pytest.raises(UserError, match=f"^DMEMM_DEVICE={name}: .*{message}"):
            choose_device()
    monkeypatch.setenv("DMEMM_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="^DMEMM_DEVICE=cuda: .*no such CUDA device"):
        choose_device()


@pytest.mark.parametrize(
    ("visible", "chosen", "count"),
    [("0,1,2", "", 3), ("GPU-8a,GPU-9b", "", 2), ("", "", 0), ("-1", "", 0), ("0,1", "cpu", 0), ("0,1", "cuda:1", 1)],
)
def test_jobs_queue_for_the_devices_that_they_may_use(
    visible: str, chosen: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("DMEMM_DEVICE", chosen)
    assert gpus() == count


def test_snakemake_counts_the_devices_and_stages_with_a_network_take_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy_tracked(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv("DMEMM_DEVICE", raising=False)
    with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
        workflow = api.workflow(ResourceSettings(cores=1), snakefile=Path("Snakefile"))._workflow
        taken = {rule.name: rule.resources["gpu"].value for rule in workflow.rules if "gpu" in rule.resources}
        assert workflow.global_resources["gpu"].value == 2
    networks = {name for name, count in taken.items() if count == 1}
    assert networks == {
        "dynamics", "reward", "value", "plan_value", "train", "evaluate", "consistency", "calibrate", "pictures",
    }  # fmt: skip
    assert {"download", "segment", "table1", "figure1"} <= taken.keys() - networks


@pytest.mark.parametrize("name", ["gpu", "cuda"])
def test_a_device_that_is_not_here_is_refused_by_its_name(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("DMEMM_DEVICE", name)
    with pytest.raises(UserError, match=f"^DMEMM_DEVICE={name}: "):
        choose_device()
