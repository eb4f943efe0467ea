"""The demo as a newcomer meets it: what ``inferway up`` prints works when pasted.

Method: one stack for the whole file; each test reads it through kubectl and curl. The tests that
restart parts wait for the objects that say so.
"""

from __future__ import annotations

import json
import shlex
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc
from harness import Stack, descendants, hold, processes_of, run, start, wait_for_end

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = start(tmp_path_factory.mktemp("demo") / "state")
    stack.wait_for("Ctrl-C stops it all.")
    yield stack
    if stack.process.poll() is None:
        stack.stop()


def printed(stack: Stack, word: str) -> str:
    """The printed command that begins with a word."""
    return next(line.strip() for line in stack.said if line.strip().startswith(word))


def test_the_printed_curl_answers_as_the_guide_says(demo: Stack) -> None:
    result = run(["bash", "-c", printed(demo, "curl")])
    head, _, body = result.stdout.replace("\r", "").partition("\n\n")
    assert head.splitlines()[0] == "HTTP/1.1 200 OK", result.stdout + result.stderr
    assert "x-went-into-resp-headers: true" in head.splitlines()
    assert "x-request-id:" in head
    answer = json.loads(body)
    assert answer["object"] == "text_completion"
    assert answer["model"] == "Qwen/Qwen2.5-1.5B-Instruct"
    assert answer["usage"] == {
        "completion_tokens": 100,
        "prompt_tokens": 10,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
        "total_tokens": 110,
    }
    assert "Phoenix" in answer["choices"][0]["text"]


def test_the_picker_answers_other_gateways(demo: Stack, kubectl: Path) -> None:
    """At port 9002 of its Pod, over TLS, as the Service and the pool say."""
    picker = "--selector=app.kubernetes.io/component=endpoint-picker"
    (pod,) = json.loads(demo.kubectl(kubectl, "get", "pods", picker, "-o", "json"))["items"]
    address = pod["status"]["podIP"]
    certificate = ssl.get_server_certificate((address, 9002), timeout=10)
    request = ext_proc.ProcessingRequest()
    request.request_headers.end_of_stream = True
    request.request_headers.headers.headers.add(key=":method", raw_value=b"GET")
    request.request_headers.headers.headers.add(key=":path", raw_value=b"/health")
    with grpc.secure_channel(
        f"{address}:9002",
        grpc.ssl_channel_credentials(certificate.encode()),
        options=[("grpc.ssl_target_name_override", "localhost")],
    ) as channel:
        process = channel.stream_stream(
            "/envoy.service.ext_proc.v3.ExternalProcessor/Process",
            request_serializer=ext_proc.ProcessingRequest.SerializeToString,
            response_deserializer=ext_proc.ProcessingResponse.FromString,
        )
        (answer,) = process(iter([request]), timeout=10)
    chosen = answer.dynamic_metadata["envoy.lb"]["x-gateway-destination-endpoint"]
    assert len(chosen.split(",")) == 3


def test_the_printed_kubectl_shows_useful_columns(demo: Stack, kubectl: Path) -> None:
    words = shlex.split(printed(demo, "kubectl get"))[1:]
    table = demo.kubectl(kubectl, *words)
    for heading in ("READY", "STATUS", "CLASS", "ADDRESS", "PROGRAMMED", "HOSTNAMES"):
        assert heading in table
    running = [line for line in table.splitlines() if "pod/" in line and "Running" in line]
    names = " ".join(running)
    # The controller, the proxy, the picker and three servers are Pods like any other.
    assert len(running) == 6, table
    for part in ("inferway", "inference-gateway", "epp", "vllm-qwen"):
        assert part in names


def test_status_says_ready_and_where(demo: Stack) -> None:
    status = demo.status()
    assert status["ready"] is True
    assert status["kubeconfig"] == str(demo.kubeconfig)
    gateway = status["gateways"][0]
    assert (gateway["name"], gateway["namespace"]) == ("inference-gateway", "default")
    assert gateway["url"].startswith("http://127.")


def test_logs_of_every_part_can_be_read(demo: Stack, kubectl: Path) -> None:
    pods = json.loads(demo.kubectl(kubectl, "get", "pods", "-A", "-o", "json"))["items"]
    for pod in pods:
        meta = pod["metadata"]
        text = demo.kubectl(kubectl, "logs", "-n", meta["namespace"], meta["name"])
        assert text, f"no logs of {meta['name']}"


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("{", 400, "JSON"),
        ('{"model": "nobody", "prompt": "x"}', 404, "food-review-0"),
        ('{"prompt": "x"}', 400, "model"),
    ],
)
def test_bad_requests_are_answered_in_openai_shape(
    demo: Stack, body: str, code: int, says: str
) -> None:
    result = run(
        ["curl", "-s", "-w", "\n%{http_code}", f"{demo.url()}/v1/completions",
         "-H", "Content-Type: application/json", "-d", body]
    )  # fmt: skip
    text, _, status = result.stdout.rpartition("\n")
    assert int(status) == code, result.stdout
    error = json.loads(text)["error"]
    assert set(error) >= {"message", "type", "code"}
    assert says in error["message"]


@pytest.mark.parametrize("adapter", ["food-review-0", "food-review-1"])
def test_adapters_answer_by_name(demo: Stack, adapter: str) -> None:
    body = json.dumps({"model": adapter, "prompt": "Review: great soup", "max_tokens": 5})
    result = run(["curl", "-s", f"{demo.url()}/v1/completions", "-d", body,
                  "-H", "Content-Type: application/json"])  # fmt: skip
    assert json.loads(result.stdout)["model"] == adapter


def test_a_deleted_pod_comes_back(demo: Stack, kubectl: Path) -> None:
    for label in (
        "app.kubernetes.io/name=inferway",
        "gateway.networking.k8s.io/gateway-name=inference-gateway",
    ):
        pods = json.loads(demo.kubectl(kubectl, "get", "pods", "-A", "-l", label, "-o", "json"))
        meta = pods["items"][0]["metadata"]
        demo.kubectl(kubectl, "delete", "pod", "-n", meta["namespace"], meta["name"])
        demo.kubectl(
            kubectl, "wait", "-n", meta["namespace"], "pods", "-l", label,
            "--for=condition=Ready", "--timeout=60s",
        )  # fmt: skip
    demo.kubectl(
        kubectl, "wait", "gateway/inference-gateway", "--for=condition=Programmed", "--timeout=60s"
    )
    result = run(["bash", "-c", printed(demo, "curl")])
    assert result.stdout.startswith("HTTP/1.1 200 OK"), result.stdout


def test_zz_ctrl_c_leaves_no_process(demo: Stack) -> None:
    below = descendants(demo.process.pid)
    assert len(below) >= 6
    handles = hold(below)
    assert demo.stop() == 0
    wait_for_end(handles, seconds=1)
    assert processes_of(demo.state) == []
