"""The syncer as it runs: files, symlink swaps and a simulated server, all in one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
import yaml

from inferway.base.clock import ManualClock, SystemClock
from inferway.base.errors import InferwayError
from inferway.lora import main as program
from inferway.lora.buckets import open_bucket
from inferway.lora.client import models_of
from inferway.lora.events import PodEvents
from inferway.lora.fetch import Fetching
from inferway.lora.machine import Syncer
from inferway.lora.messages import AdapterState, Place, Report, Schedule
from inferway.lora.metrics import Status, serve
from inferway.lora.pump import Pump, World, read
from inferway.simulator import flags
from inferway.simulator.main import serve as serve_vllm

DEADLINE_SECONDS = 15.0
LOOK_SECONDS = 0.01
SCHEDULE = Schedule(health_interval_seconds=0.02, trigger_seconds=0.05)


@asynccontextmanager
async def vllm(*arguments: str, **env: str) -> AsyncIterator[int]:
    """A simulated server; yields its port."""
    options = flags.parse(
        ["base", "--host", "127.0.0.1", "--port", "0", "--profile", "instant",
         "--enable-lora", "--disable-uvicorn-access-log", *arguments],
        {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true", **env},
    )  # fmt: skip
    stop = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_vllm(options, stop, lambda _, p: port.set_result(p)), name="vllm")
        try:
            yield await port
        finally:
            stop.set()


class Mount:
    """A mounted ConfigMap as the kubelet keeps it: a symlink to the current folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.path = folder / "configmap.yaml"

    def write(self, text: str) -> None:
        self._count += 1
        version = self._folder / f"..v{self._count}"
        version.mkdir(parents=True)
        (version / "configmap.yaml").write_text(text)
        link = self._folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self._folder / "..data")
        if not self.path.is_symlink():
            self.path.symlink_to("..data/configmap.yaml")

    def want(self, port: int, exist: dict[str, str], absent: tuple[str, ...] = ()) -> None:
        body = {
            "port": port,
            "host": "127.0.0.1",
            "ensureExist": {"models": [{"id": i, "source": s} for i, s in exist.items()]},
            "ensureNotExist": {"models": [{"id": i} for i in absent]},
        }
        self.write(yaml.safe_dump({"vLLMLoRAConfig": body}))


@asynccontextmanager
async def syncing(mount: Mount) -> AsyncIterator[Status]:
    clock = SystemClock()
    status = Status(clock)
    store = mount.path.parent / "store"
    world = World(
        path=mount.path,
        store=store,
        status=status,
        events=PodEvents(None, clock),
        fetching=Fetching(open_bucket=open_bucket),
        clock=clock,
    )
    pump = Pump(Syncer(SCHEDULE, Place(store=str(store))), world)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        task = group.create_task(pump.run(), name="pump")
        yield status
        task.cancel()


async def adapters(port: int) -> dict[str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/v1/models") as response,
    ):
        models, _ = models_of(await response.text())
    assert models is not None
    return {name: model.root for name, model in models.items() if model.parent}


async def pause() -> None:
    """A moment for others, between two looks at something that has no event of its own."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOK_SECONDS):
            await asyncio.Event().wait()


async def until(port: int, expected: dict[str, str]) -> None:
    """Asks the server until it has these adapters; the deadline of the test ends it otherwise."""
    while await adapters(port) != expected:
        await pause()


@pytest.mark.slow
async def test_a_server_follows_its_configmap(tmp_path: Path) -> None:
    mount = Mount(tmp_path)
    async with vllm("--lora-modules", "static=there") as port:
        mount.want(port, {"food": "repo/food", "cad": "repo/cad"})
        async with syncing(mount) as status:
            await until(port, {"static": "there", "food": "repo/food", "cad": "repo/cad"})
            # One adapter leaves, one gets a new source, the rest stays.
            mount.want(port, {"food": "repo/food-v2"}, ("cad", "base"))
            await until(port, {"static": "there", "food": "repo/food-v2"})
            async with asyncio.timeout(DEADLINE_SECONDS):
                while 'adapter_name="cad"} 0.0' not in status.render():
                    await pause()
            assert 'adapter_name="food"} 1.0' in status.render()


@pytest.mark.slow
async def test_a_broken_file_keeps_the_last_good_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mount = Mount(tmp_path)
    async with vllm() as port:
        mount.want(port, {"food": "repo/food"})
        async with syncing(mount) as status:
            await until(port, {"food": "repo/food"})
            mount.write("vLLMLoRAConfig: [")
            while "The last good configuration stays in force" not in caplog.text:
                await pause()
            assert "inferway_lora_configuration_valid 0.0" in status.render()
            assert (
                'inferway_lora_events_total{reason="ConfigurationRefused"} 1.0' in status.render()
            )
            mount.write(yaml.safe_dump({"vLLMLoRAConfig": {"port": "nonsense"}}))
            assert await adapters(port) == {"food": "repo/food"}
            mount.want(port, {"food": "repo/food", "cad": "repo/cad"})
            await until(port, {"food": "repo/food", "cad": "repo/cad"})


@pytest.mark.slow
async def test_an_adapter_that_cannot_be_loaded_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mount = Mount(tmp_path)
    async with vllm(INFERWAY_SIMULATOR_MISSING_ADAPTERS="gone/*") as port:
        mount.want(port, {"bad": "gone/bad", "good": "repo/good"})
        async with syncing(mount) as status:
            await until(port, {"good": "repo/good"})
            while 'adapter_name="good"} 1.0' not in status.render():
                await pause()
            assert 'adapter_name="bad"} 0.0' in status.render()
            problem = (
                'inferway_lora_adapter_problem{adapter_name="bad",reason="SourceNotFound"} 1.0'
            )
            assert problem in status.render()
    records = [getattr(record, "data", {}) for record in caplog.records]
    errors = [str(data["error"]) for data in records if "error" in data]
    assert any("No adapter found for gone/bad" in e and "INFERWAY0609" in e for e in errors)


@pytest.mark.slow
async def test_a_server_that_comes_later_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mount = Mount(tmp_path)
    async with vllm() as port:
        pass
    mount.want(port, {"food": "repo/food"})
    async with syncing(mount):
        while "Waiting for the model server" not in caplog.text:
            await pause()
        async with vllm("--port", str(port)) as again:
            assert again == port
            await until(port, {"food": "repo/food"})


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "INFERWAY0601"), (b"\xff\xfe", "INFERWAY0601"), (b"a: [", "INFERWAY0602")],
)  # fmt: skip
def test_a_first_configuration_that_is_not_usable_ends_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, code: str
) -> None:
    path = tmp_path / "configmap.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InferwayError) as caught:
        read(path)
    assert caught.value.code == code
    argv = ["--metrics-port", "0"]
    assert program.main(argv, {"DYNAMIC_LORA_ROLLOUT_CONFIG": str(path)}) == 1
    error = capsys.readouterr().err
    assert code in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("argv", "env", "check"),
    [
        ([], {}, lambda o: str(o.config) == "/config/configmap.yaml"),
        ([], {}, lambda o: o.schedule == Schedule()),
        ([], {}, lambda o: (o.metrics_host, o.metrics_port) == ("0.0.0.0", 8080)),
        ([], {"DYNAMIC_LORA_ROLLOUT_CONFIG": "/a"}, lambda o: str(o.config) == "/a"),
        (["--config", "/b"], {"DYNAMIC_LORA_ROLLOUT_CONFIG": "/a"},
         lambda o: str(o.config) == "/b"),
        (["--health-check-timeout=1", "--health-check-interval", "2", "--reconcile-trigger=3"], {},
         lambda o: o.schedule == Schedule(health_timeout_seconds=1, health_interval_seconds=2,
                                          trigger_seconds=3)),
        (["--config-validation"], {}, lambda o: True),
        (["--config-validation", "false"], {}, lambda o: True),
        (["--no-config-validation"], {}, lambda o: True),
        ([], {"HOSTNAME": "pod-1"}, lambda o: o.place.store == "/adapters/inferway/pod-1"),
        (["--adapters-dir=/a/", "--max-adapter-size", "1Gi"], {"INFERWAY_POD_IP": "::1"},
         lambda o: (o.place.store, o.adapter_bytes_max) == ("/a/inferway/__1", 2**30)),
        ([], {"VLLM_API_KEY": "key"}, lambda o: o.api_key == "key"),
        ([], {"INFERWAY_LOCALHOST": "127.77.1.1", "INFERWAY_POD_IP": "127.77.1.1"},
         lambda o: (o.place.localhost, o.metrics_host) == ("127.77.1.1", "127.77.1.1")),
    ],
)  # fmt: skip
def test_flags(
    argv: list[str], env: dict[str, str], check: Callable[[program.Options], bool]
) -> None:
    options = program.parse(argv, env)
    assert check(options), options


@pytest.mark.parametrize(
    "argv",
    [
        ["--reconcile-trigger", "0"],
        ["--metrics-port", "70000"],
        ["--nonsense"],
        ["--adapters-dir", "relative"],
        ["--max-adapter-size", "much"],
    ],
)
def test_flags_that_are_wrong(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(argv, {}) == 2
    assert argv[0] in capsys.readouterr().err


async def test_metrics_are_served() -> None:
    clock = ManualClock(wall=1000.0)
    status = Status(clock)
    old = {'a"b': AdapterState("r"), "gone": AdapterState("", "LoadFailed"), "old": AdapterState()}
    status.update(Report(healthy=False, slots=0, adapters=old))
    clock.advance(5)
    new = {'a"b': AdapterState("r"), "gone": AdapterState("s")}
    status.update(Report(healthy=True, slots=4, adapters=new))
    status.noted("AdapterLoaded")
    server = await serve(status, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        text = await response.text()
    server.close()
    assert 'lora_syncer_adapter_status{adapter_name="a\\"b"} 1.0\n' in text
    assert 'lora_syncer_adapter_status{adapter_name="gone"} 1.0\n' in text
    assert 'last_change_timestamp_seconds{adapter_name="gone"} 1005.0\n' in text
    assert 'last_change_timestamp_seconds{adapter_name="a\\"b"} 1000.0\n' in text
    assert 'inferway_lora_events_total{reason="AdapterLoaded"} 1.0\n' in text
    assert "inferway_lora_server_healthy 1.0\n" in text
    assert "inferway_lora_server_slots 4.0\n" in text
    assert "LoadFailed" not in text
    assert "old" not in text


@pytest.mark.parametrize(
    ("text", "reason"), [("nonsense", "no JSON"), ("[]", "no list"), ('{"data": 5}', "no list")]
)
def test_lists_that_are_none(text: str, reason: str) -> None:
    models, why = models_of(text)
    assert models is None
    assert reason in why


@pytest.mark.slow
async def test_a_server_that_was_restarted_gets_its_adapters_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mount = Mount(tmp_path)
    async with vllm() as port:
        mount.want(port, {"food": "repo/food"})
        async with syncing(mount) as status:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while 'adapter_name="food"} 1.0' not in status.render():
                    await pause()
            # Somebody else takes it away, which looks as a restart does.
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"http://127.0.0.1:{port}/v1/unload_lora_adapter", json={"lora_name": "food"}
                ) as response,
            ):
                assert response.status == 200
            while "Adapters are lost" not in caplog.text:
                await pause()
            await until(port, {"food": "repo/food"})
    assert 'events_total{reason="AdaptersLost"} 1.0' in status.render()


@pytest.mark.slow
async def test_a_broken_folder_is_told_before_the_server_is_asked(tmp_path: Path) -> None:
    mount = Mount(tmp_path)
    folder = tmp_path / "adapter"
    folder.mkdir()
    async with vllm() as port:
        mount.want(port, {"food": "repo/food"})
        async with syncing(mount) as status:
            await until(port, {"food": "repo/food"})
            # The new source is broken: the old one serves on.
            mount.want(port, {"food": str(folder)})
            while 'reason="BrokenAdapter"} 1.0' not in status.render():
                await pause()
            assert await adapters(port) == {"food": "repo/food"}
            (folder / "adapter_config.json").write_text(
                '{"r": 1, "lora_alpha": 1, "target_modules": []}'
            )
            (folder / "adapter_model.bin").write_text("weights")
            await until(port, {"food": str(folder)})


async def test_a_first_configuration_that_is_refused_is_told_as_an_event(tmp_path: Path) -> None:
    mount = Mount(tmp_path)
    mount.write("vLLMLoRAConfig: {hots: x}")
    status = Status(SystemClock())
    world = World(
        path=mount.path,
        store=tmp_path,
        status=status,
        events=PodEvents(None, SystemClock()),
        fetching=Fetching(open_bucket=open_bucket),
        clock=SystemClock(),
    )
    with pytest.raises(InferwayError, match="did you mean host"):
        await Pump(Syncer(SCHEDULE), world).run()
    assert 'events_total{reason="ConfigurationRefused"} 1.0' in status.render()
    assert "inferway_lora_configuration_valid 0.0" in status.render()
