"""Ray on two hosts, which are network namespaces of this machine: one is killed, and the numbers stay the same."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hf_infodist.cli import main
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.errors import NotFoundError
from hf_infodist.pair import Execution
from hf_infodist.results.matrix import PairwiseMatrix

MODELS = ["demo:cnn", "demo:vit", "random:demo:cnn"]
HOSTS = {"one": "10.55.0.1", "two": "10.55.0.2"}
PORT = 6399
ADDRESS = f"{HOSTS['one']}:{PORT}"
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # what the hosts of this cluster share
RAY, INFODIST = (Path(sys.executable).parent / name for name in ("ray", "infodist"))


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def require_namespaces():
    """Skip where network namespaces cannot be made; never in CI."""
    missing = [name for name in ("ip", str(RAY)) if not shutil.which(name)]
    reason = f"missing: {', '.join(missing)}" if missing else "only root makes network namespaces" * (os.getuid() != 0)
    if reason and not os.environ.get("CI"):
        pytest.skip(reason)
    assert not reason, reason


def pids(host):
    return [int(pid) for pid in ip("netns", "pids", f"infodist-{host}").split()]


def kill(host):
    """End everything that runs on a host, at once."""
    for pid in pids(host):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def hosts():
    """Join two hosts with a cable, and give them back a way to run commands on each."""
    require_namespaces()
    try:
        for host in HOSTS:
            ip("netns", "add", f"infodist-{host}")
        ip("link", "add", "ends-one", "type", "veth", "peer", "name", "ends-two")
        for host, address in HOSTS.items():
            ip("link", "set", f"ends-{host}", "netns", f"infodist-{host}")
            ip("-n", f"infodist-{host}", "link", "set", "lo", "up")
            ip("-n", f"infodist-{host}", "addr", "add", f"{address}/24", "dev", f"ends-{host}")
            ip("-n", f"infodist-{host}", "link", "set", f"ends-{host}", "up")
        yield lambda host, *words, **options: subprocess.Popen(
            ["ip", "netns", "exec", f"infodist-{host}", *map(str, words)],
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"} | TOKEN,
            text=True,
            **options,
        )
    finally:
        for host in HOSTS:
            kill(host)
            ip("netns", "del", f"infodist-{host}")


@pytest.fixture
def cluster(hosts):
    """Start Ray on both, with one processor each."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a short path, as its sockets need
    roles = {"one": ["--head", "--port", PORT, "--include-dashboard", "false"], "two": ["--address", ADDRESS]}
    started = []
    for host, role in roles.items():
        common = ["--temp-dir", folder / host, "--node-ip-address", HOSTS[host], "--num-cpus", "1", "--block"]
        log = folder / f"{host}.log"
        with log.open("w") as file:
            started.append(hosts(host, RAY, "start", *role, *common, stdout=file, stderr=file))
        wait_for("Ray runtime started", log, started[-1])
    yield hosts
    for host in HOSTS:
        kill(host)
    for process in started:
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def wait_for(text, log, process):
    deadline = time.monotonic() + 240
    while text not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def claimed_on(host, runs):
    """Tell whether a process of a host is computing a codelength."""
    there = set(pids(host))
    for claim in runs.glob("*.claim"):
        try:
            if json.loads(claim.read_text())["pid"] in there:
                return True
        except (OSError, ValueError):  # released, or being written
            continue
    return False


@pytest.mark.slow
def test_a_host_that_dies_loses_nothing_and_the_numbers_are_those_of_the_local_engine(cluster, tmp_path, monkeypatch):
    settings = ["-i", "digits", "-k", "64", "-p", "standard", "--engine", "ray", "--address", ADDRESS]
    monkeypatch.setenv("INFODIST_HOME", str(tmp_path / "ray"))
    words = ["matrix", *MODELS, *settings, "-o", tmp_path / "matrix.json"]
    command = cluster("one", INFODIST, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not claimed_on("two", tmp_path / "ray" / "runs"):
        assert command.poll() is None, command.communicate()
        time.sleep(0.05)
    kill("two")
    out, err = command.communicate()
    assert command.returncode == 0, err
    assert "6 of 6 done, 0 running, 0 failed; 3 of 3 models run" in err and "demo:vit" in out
    result = PairwiseMatrix.from_dict(json.loads((tmp_path / "matrix.json").read_text()))
    local = pairwise_distances(
        MODELS, "digits", k=64, protocol="standard", execution=Execution(home=tmp_path / "local")
    )
    assert result.complete and result.nats.tobytes() == local.nats.tobytes()
    assert result.stderr_nats.tobytes() == local.stderr_nats.tobytes()


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NotFoundError, match="pip install"):
        pairwise_distances(MODELS[:2], "digits", k=48, protocol="standard", engine="ray")


def test_no_cluster_at_an_address_is_told_in_three_lines(capsys):
    words = ["matrix", *MODELS[:2], "-i", "digits", "-k", "48", "-p", "standard", "--engine", "ray"]
    with pytest.raises(SystemExit, match=r"^3$"):
        main([*words, "--address", "127.0.0.1:9"])
    assert "ray start --head" in capsys.readouterr().err
