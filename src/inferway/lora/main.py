"""``inferway lora-syncer``: the published LoRA syncer's flags and environment."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from inferway.base.clock import SystemClock
from inferway.base.errors import InferwayError
from inferway.base.quantities import parse as parse_quantity
from inferway.lora.errors import bad_flag, port_taken
from inferway.lora.machine import Syncer
from inferway.lora.messages import Place, Schedule
from inferway.lora.metrics import Status, serve

LOG = logging.getLogger(__name__)
CONFIG_DEFAULT = "/config/configmap.yaml"
METRICS_PORT_DEFAULT = 8080
ADAPTERS_DIR_DEFAULT = "/adapters"
# Adapters of the largest models at high ranks stay under 4 GiB.
ADAPTER_SIZE_DEFAULT = "8Gi"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one syncer."""

    config: Path
    schedule: Schedule = Schedule()
    metrics_host: str = "0.0.0.0"
    metrics_port: int = METRICS_PORT_DEFAULT
    place: Place = Place()
    adapter_bytes_max: int = 8 * 1024**3
    # The model server's key. It is in no flag, because command lines are seen by others.
    api_key: str = ""


def parse(argv: Sequence[str], env: Mapping[str, str]) -> Options:
    """Raises UsageError, and SystemExit(2) as argparse does."""
    defaults = Schedule()
    parser = argparse.ArgumentParser(
        prog="inferway lora-syncer",
        description="Keeps a vLLM server's LoRA adapters equal to a ConfigMap.",
    )
    add = parser.add_argument
    add("--health-check-timeout", type=float, default=defaults.health_timeout_seconds,
        help="seconds until a server that is not healthy is reported (default 300)")  # fmt: skip
    add("--health-check-interval", type=float, default=defaults.health_interval_seconds,
        help="seconds between health checks while waiting (default 2)")  # fmt: skip
    add("--reconcile-trigger", type=float, default=defaults.trigger_seconds,
        help="seconds between rounds when the file does not change (default 5)")  # fmt: skip
    config = env.get("DYNAMIC_LORA_ROLLOUT_CONFIG") or CONFIG_DEFAULT
    add("--config", default=config, help=f"file to follow (default {config})")
    add("--config-validation", nargs="?", default="true",
        help="accepted as published; a configuration is always validated")  # fmt: skip
    add("--no-config-validation", action="store_true", help=argparse.SUPPRESS)
    add("--metrics-port", type=int, default=METRICS_PORT_DEFAULT,
        help="port of the metrics, 0 for none (default 8080)")  # fmt: skip
    add("--adapters-dir", default=ADAPTERS_DIR_DEFAULT,
        help="folder that the model server sees at the same path, for adapters that are fetched "
        "(default /adapters)")  # fmt: skip
    add("--max-adapter-size", default=ADAPTER_SIZE_DEFAULT,
        help="bytes of an adapter that is fetched, packed or not (default 8Gi)")  # fmt: skip
    args = parser.parse_args(list(argv))
    for name in ("health_check_timeout", "health_check_interval", "reconcile_trigger"):
        value = getattr(args, name)
        if not 0 < value < float("inf"):
            raise bad_flag(f"--{name.replace('_', '-')} must be more than 0 seconds, got {value:g}")
    if not 0 <= args.metrics_port <= 65_535:
        raise bad_flag(f"--metrics-port {args.metrics_port} is not a port")
    if not args.adapters_dir.startswith("/"):
        raise bad_flag(f"--adapters-dir {args.adapters_dir} is not an absolute path")
    localhost = env.get("INFERWAY_LOCALHOST", "")
    return Options(
        config=Path(args.config),
        schedule=Schedule(
            health_timeout_seconds=args.health_check_timeout,
            health_interval_seconds=args.health_check_interval,
            trigger_seconds=args.reconcile_trigger,
        ),
        # On the host's network the Pod has one address and must not take all.
        metrics_host=(env.get("INFERWAY_POD_IP") or localhost) if localhost else "0.0.0.0",
        metrics_port=args.metrics_port,
        place=Place(localhost=localhost, store=_store(args.adapters_dir, env)),
        adapter_bytes_max=_bytes(args.max_adapter_size),
        api_key=env.get("VLLM_API_KEY", ""),
    )


def _store(adapters_dir: str, env: Mapping[str, str]) -> str:
    """A folder of this Pod's own: Pods may share the volume, and each clears away what is its own.
    The name outlives a restart of the container.
    """
    owner = env.get("INFERWAY_POD_IP") or env.get("POD_NAME") or env.get("HOSTNAME") or "syncer"
    return f"{adapters_dir.rstrip('/')}/inferway/{re.sub(r'[^A-Za-z0-9.-]', '_', owner)}"


def _bytes(text: str) -> int:
    try:
        size = int(parse_quantity(text))
    except ValueError:
        size = 0
    if size <= 0:
        raise bad_flag(f"--max-adapter-size {text} is not a size such as 8Gi")
    return size


async def run(options: Options, stop: asyncio.Event, env: Mapping[str, str]) -> None:
    """Follows the file until ``stop``. Raises InferwayError for a bad first configuration."""
    # The HTTP client is the largest import, and bad flags do not need it.
    from inferway.lora.buckets import open_bucket
    from inferway.lora.events import PodEvents, account
    from inferway.lora.fetch import Fetching
    from inferway.lora.pump import Pump, World

    clock = SystemClock()
    status = Status(clock)
    server = await _metrics(status, options)
    world = World(
        path=options.config,
        store=Path(options.place.store),
        status=status,
        events=PodEvents(account(env), clock),
        fetching=Fetching(open_bucket=open_bucket, bytes_max=options.adapter_bytes_max),
        clock=clock,
        api_key=options.api_key,
    )
    pump = Pump(Syncer(options.schedule, options.place), world)
    try:
        async with asyncio.TaskGroup() as group:
            work = group.create_task(pump.run(), name="lora-pump")
            waiting = group.create_task(stop.wait(), name="lora-stop")
            await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            waiting.cancel()
    except* InferwayError as errors:
        raise _first(errors) from None
    finally:
        if server is not None:
            server.close()


def _first(errors: BaseExceptionGroup[InferwayError]) -> InferwayError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, InferwayError)
    return found


async def _metrics(status: Status, options: Options) -> asyncio.Server | None:
    if not options.metrics_port:
        return None
    try:
        return await serve(status, options.metrics_host, options.metrics_port)
    except OSError as error:
        address = f"{options.metrics_host}:{options.metrics_port}"
        text = str(port_taken(address, error.strerror or str(error)))
        LOG.warning("Metrics are off", extra={"data": {"error": text}})
        return None


async def _until_signal(options: Options, env: Mapping[str, str]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(options, stop, env)


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Exit code 0 after a clean stop, 1 for a bad first configuration, 2 for bad flags."""
    try:
        asyncio.run(_until_signal(parse(argv, env), env))
    except InferwayError as error:
        print(f"inferway lora-syncer: error: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s %(data)s")
    sys.exit(main(sys.argv[1:], os.environ))
