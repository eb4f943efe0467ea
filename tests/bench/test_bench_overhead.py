"""The parts of the overhead benchmark, with real wrk, real Envoy and real backends.

Method: the pure parts by tables; one short round through plain Envoy for each kind of backend, so
that a change of a program's output or configuration is noticed here and not in a long run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inferway.base.errors import InferwayError, UsageError
from inferway.bench import (
    backends,
    datapath,
    extproc,
    live,
    overhead,
    plain,
    processes,
    report,
    wrk,
)
from inferway.bench.target import Target

# Each test process has addresses of its own, far from those of stacks.
NET = f"127.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
RESULT = (
    "  Latency 1ms\n"
    'wrk-result {"requests": 50, "micros": 2000000, "errors": 0, "p50": 900, "p99": 2500}\n'
)


def sample(requests: int, cpu: dict[str, float], p50: float = 1.0) -> overhead.Sample:
    return overhead.Sample(wrk.WrkResult(requests, 2.0, 0, p50, 2 * p50), cpu, 0.01)


def test_a_result_is_read() -> None:
    result = wrk.parse(RESULT)
    assert result == wrk.WrkResult(50, 2.0, 0, 0.9, 2.5)
    assert result.requests_per_second == 25.0


def test_no_result_is_an_error() -> None:
    with pytest.raises(InferwayError, match="INFERWAY0171"):
        wrk.parse("unable to connect to 127.0.0.1:9 Connection refused\n")


def test_missing_wrk_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="apt-get install wrk"):
        wrk.find_wrk()


def test_a_paced_run_has_as_many_connections_as_its_rate_needs() -> None:
    run = wrk.WrkRun("http://x", ("{}",), 5.0, rate=3000.0)
    assert wrk.connections(run) == 60
    assert "function delay()" in wrk.script(run)
    assert "function delay()" not in wrk.script(wrk.WrkRun("http://x", ("{}",), 5.0))


@pytest.mark.parametrize("size", [256, 1024, 4096])
def test_bodies_have_exactly_the_size(size: int) -> None:
    made = overhead.bodies(size)
    assert {len(body) for body in made} == {size}
    assert len(set(made)) == overhead.BODIES
    assert json.loads(made[0])["model"] == backends.MODEL


def test_as_many_addresses_as_endpoints() -> None:
    hosts = overhead.hosts_of(300)
    assert len(set(hosts)) == 300
    assert {"127.255.1.1", "127.255.1.250", "127.255.2.1", "127.255.2.50"} <= set(hosts)
    # Plain Envoy and ours listen beside them.
    assert not any(host.startswith("127.255.0.") for host in hosts)


def test_a_body_too_small_is_refused() -> None:
    with pytest.raises(InferwayError, match="INFERWAY0177"):
        overhead.bodies(50)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["/a/bin/envoy", "--config-yaml", "picker"], "envoy"),
        (["python", "-m", "inferway", "picker", "--pool-name", "x"], "picker"),
        (["inferway", "gateway-controller"], "gateway-controller"),
        (["inferway", "up", "--empty"], "cluster"),
        ([], "cluster"),
    ],
)
def test_processes_are_told_apart_by_their_words(words: list[str], part: str) -> None:
    assert processes.part_of(words) == part


def test_rows_are_medians_with_ratios() -> None:
    alone = Target("plain-envoy", "", {"envoy": [1]})
    other = Target("inferway", "", {"envoy": [2], "picker": [3]})
    rows = overhead.with_ratio(
        [
            overhead.row(alone, 1024, [sample(1000, {"envoy": s}) for s in (0.05, 0.06, 0.5)]),
            overhead.row(other, 1024, [sample(1000, {"envoy": 0.08, "picker": 0.04})]),
        ]
    )
    assert [row["cpu_us_per_request"] for row in rows] == pytest.approx([60.0, 120.0])
    assert [row["ratio_to_plain"] for row in rows] == pytest.approx([1.0, 2.0])
    assert rows[1]["parts_us_per_request"] == {"envoy": 80.0, "picker": 40.0}
    assert set(overhead.COLUMNS) - {"endpoints"} <= set(rows[0])


def test_cpu_and_kin_of_a_process() -> None:
    words = [sys.executable, "-c", "sum(range(3_000_000)); input()"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)
    try:
        assert process.pid in processes.descendants(os.getpid())
        assert processes.command(process.pid)[0] == sys.executable
        process.communicate("\n", timeout=30)
    finally:
        process.kill()
        process.wait()
    assert processes.cpu_seconds(process.pid) == 0.0
    assert processes.command(process.pid) == []
    assert processes.cpu_seconds(os.getpid()) > 0.0


def test_a_report_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench" / "x.json"
    report.write(path, {"cores": 2}, [{"system": "a", "p50_ms": 1.23456}])
    assert json.loads(path.read_text()) == {
        "machine": {"cores": 2},
        "rows": [{"system": "a", "p50_ms": 1.235}],
    }
    assert list(path.parent.iterdir()) == [path]
    report.show("title", ["system", "p50_ms", "p99_ms"], [{"system": "a", "p50_ms": 1.23456}])
    assert "1.235" in capsys.readouterr().out


def test_what_is_applied_leaves_the_model_servers_out() -> None:
    kinds = [(item["kind"], item["metadata"]["name"]) for item in live.objects()]
    assert ("Deployment", "vllm-qwen") not in kinds
    assert ("Deployment", "vllm-qwen-epp") in kinds
    assert ("InferencePool", "vllm-qwen") in kinds
    assert ("Gateway", "inference-gateway") in kinds
    plurals = {live.resource_of(item).plural for item in live.objects()}
    assert {"gatewayclasses", "inferencepools", "httproutes"} <= plurals


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nginx", "envoy"])
def test_a_round_through_plain_envoy(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not here: apt-get install wrk")
    if kind == "envoy":
        found = shutil.which
        monkeypatch.setattr(
            backends.shutil, "which", lambda name: None if "nginx" in name else found(name)
        )
    hosts = (f"{NET}.1", f"{NET}.2")
    with backends.running(hosts, tmp_path) as servers:
        if servers.kind != kind:
            pytest.skip("nginx is not here: apt-get install nginx-light")
        with plain.running(f"{NET}.3", hosts, tmp_path, concurrency=1) as target:
            bench = overhead.Bench(servers.process.pid, tmp_path)
            run = wrk.WrkRun(target.url, overhead.bodies(1024), 1.0, rate=200.0)
            measured = bench.round(target, run)
    assert measured.result.errors == 0
    assert measured.result.requests > 50
    assert measured.micros("envoy") > 0
    assert measured.backend_cpu > 0


@pytest.mark.slow
def test_the_data_path_answers_and_is_measured(tmp_path: Path) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not here: apt-get install wrk")
    hosts = (f"{NET}.21", f"{NET}.22")
    with (
        backends.running(hosts, tmp_path) as servers,
        datapath.running(f"{NET}.23", hosts, tmp_path, concurrency=1) as target,
    ):
        run = wrk.WrkRun(target.url, overhead.bodies(1024), 1.0, rate=100.0)
        measured = overhead.Bench(servers.process.pid, tmp_path).round(target, run)
    assert measured.result.errors == 0
    assert measured.result.requests > 30
    assert measured.micros("envoy") > 0
    assert measured.micros("picker") > 0


@pytest.mark.slow
def test_the_way_of_other_gateways_is_measured(tmp_path: Path) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not here: apt-get install wrk")
    hosts = (f"{NET}.31", f"{NET}.32")
    with (
        backends.running(hosts, tmp_path) as servers,
        extproc.running(f"{NET}.33", hosts, tmp_path, concurrency=1) as target,
    ):
        run = wrk.WrkRun(target.url, overhead.bodies(1024), 1.0, rate=100.0)
        measured = overhead.Bench(servers.process.pid, tmp_path).round(target, run)
    assert measured.result.errors == 0
    assert measured.result.requests > 10
    assert measured.micros("envoy") > 0
    assert measured.micros("picker") > 0


def test_a_port_that_nobody_opens_is_an_error(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], text=True)
    process.wait()
    with pytest.raises(InferwayError, match="INFERWAY0174"):
        backends.wait_for_port(f"{NET}.9", 9, process, tmp_path)


def test_the_command_line() -> None:
    words = ["--seconds", "1", "--rounds", "2", "--body-bytes", "512", "--endpoints", "3", "5"]
    options = overhead.parse(words)
    output = Path("build/bench/overhead.json")
    assert options == overhead.Options(1.0, 2, (512,), (3, 5), output)
    assert overhead.parse(["--endpoints"]).endpoints == ()
    assert overhead.parse(["--data-path"]).data_path
