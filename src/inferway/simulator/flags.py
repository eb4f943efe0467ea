"""The command line of ``vllm serve``, read into ``Options``.

Three tables: flags that matter here, flags of vLLM that are accepted without effect and take a
value, and those that are switches. Anything else is refused as argparse does, with a suggestion.
Flags may be written with underscores and sizes like ``32k``, as vLLM allows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from inferway.base.errors import UsageError
from inferway.simulator import kv_events_config, profile_file
from inferway.simulator.engine.profiles import Profile, builtin_profiles
from inferway.simulator.engine.values import EngineConfig
from inferway.simulator.flag_tables import (
    IGNORED_SWITCHES,
    IGNORED_VALUES,
    SHORT_SWITCHES,
    SHORT_VALUES,
)
from inferway.simulator.options import LoraModule, Options

# GiB of cache when nobody says otherwise, as vLLM takes on a CPU.
CACHE_GIB = 4.0
_GIB = 1024**3
_WILDCARDS = frozenset({"0.0.0.0", "::", "*", ""})
_LOCAL = frozenset({"localhost", "127.0.0.1"})
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DTYPES = ("auto", "bfloat16", "float", "float16", "float32", "half")
_SUFFIXES = {
    "k": 1000, "m": 1000**2, "g": 1000**3, "K": 1024, "M": 1024**2, "G": 1024**3,
}  # fmt: skip


def size(text: str) -> int:
    """A whole number such as 4096, 32k (thousands) or 32K (1024s)."""
    factor = _SUFFIXES.get(text[-1:], 1)
    number = float(text[:-1]) if factor != 1 else float(int(text))
    return int(number * factor)


def human_readable_int_or_auto(text: str) -> int | None:
    """A size, or none for "auto". Named as in vLLM, because the parser tells the name."""
    return None if text in ("auto", "-1") else size(text)


class _Parser(argparse.ArgumentParser):
    """Errors of argparse with a hint to the nearest flag."""

    known: tuple[str, ...] = ()

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            from difflib import get_close_matches

            first = message.removeprefix(prefix).split()[0].split("=")[0]
            near = get_close_matches(first, self.known, n=1)
            if near:
                message += f" (did you mean {near[0]}?)"
        super().error(message)


def _switch(parser: argparse.ArgumentParser, name: str, *, default: bool) -> None:
    parser.add_argument(name, action=argparse.BooleanOptionalAction, default=default)


def build_parser() -> argparse.ArgumentParser:
    """The parser without the flags that have no effect."""
    parser = _Parser(
        prog="inferway simulator",
        description="A simulated vLLM server: its HTTP API over a model of its engine.",
        allow_abbrev=False,
        usage="inferway simulator [MODEL] [--port PORT] [flags of vllm serve]",
    )
    add = parser.add_argument
    add("model_tag", nargs="?", metavar="MODEL", help="model to serve")
    add("--model", default=None, help="model to serve, the same as the positional MODEL")
    add("--served-model-name", nargs="+", default=None, help="names the API answers to")
    add("--host", default=None, help="address to listen on (default 0.0.0.0)")
    add("--port", type=int, default=8000)
    add("--uds", default="", help="Unix socket to listen on instead of a port")
    add("--root-path", default="")
    add("--api-key", nargs="+", default=None)
    add("--seed", type=int, default=0)
    add("--max-model-len", type=human_readable_int_or_auto, default=None)
    add("--block-size", type=int, default=None)
    add("--max-num-seqs", type=size, default=256)
    add("--max-num-batched-tokens", type=size, default=None)
    add("--gpu-memory-utilization", "--device-memory-utilization", type=float, default=0.92)
    add("--num-gpu-blocks-override", type=int, default=None)
    add("--kv-cache-memory-bytes", type=size, default=None)
    add("--kv-cache-dtype", default="auto")
    _switch(parser, "--enable-prefix-caching", default=True)
    _switch(parser, "--enable-chunked-prefill", default=True)
    _switch(parser, "--enable-lora", default=False)
    add("--max-loras", type=int, default=1)
    add("--max-lora-rank", type=int, default=16, choices=LORA_RANKS)
    add("--dtype", default="auto", choices=DTYPES)
    add("--max-cpu-loras", type=int, default=None)
    add("--lora-modules", nargs="+", default=None, metavar="NAME=PATH|JSON")
    _switch(parser, "--enable-prompt-tokens-details", default=False)
    _switch(parser, "--enable-force-include-usage", default=False)
    _switch(parser, "--enable-request-id-headers", default=False)
    _switch(parser, "--disable-uvicorn-access-log", default=False)
    add("--disable-access-log-for-endpoints", default="")
    add("--uvicorn-log-level", default="info",
        choices=("critical", "debug", "error", "info", "trace", "warning"))  # fmt: skip
    add("--kv-events-config", type=kv_events_config.parse, default=None, metavar="JSON")
    add("--config", default=None, help="YAML file with flags; flags given here win")
    add("--profile", default=None,
        help="speed of the engine: a built-in name or a YAML file")  # fmt: skip
    add("--time-scale", type=float, default=None,
        help="factor on all times of the profile; 0 is instant")  # fmt: skip
    return parser


def parse(argv: Sequence[str], env: Mapping[str, str]) -> Options:
    """Raises UsageError for values, and SystemExit(2) as argparse does for the form."""
    parser = build_parser()
    arguments = [_with_hyphens(argument) for argument in argv]
    if arguments[:1] == ["serve"]:
        del arguments[0]
    arguments = _with_config(arguments)
    arguments, ignored = _without_ignored(arguments)
    assert isinstance(parser, _Parser)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    parser.known = (*flags, *IGNORED_VALUES, *IGNORED_SWITCHES)
    args = parser.parse_args(arguments)
    return _options(args, env, ignored)


def _with_hyphens(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _with_config(arguments: list[str]) -> list[str]:
    """Puts the flags of a ``--config`` file before those of the command line."""
    for index, argument in enumerate(arguments):
        if argument == "--config" and index + 1 < len(arguments):
            path = arguments[index + 1]
        elif argument.startswith("--config="):
            path = argument.partition("=")[2]
        else:
            continue
        # A positional model stays in front, where no flag with several values can take it.
        front = [] if arguments[0].startswith("-") else arguments[:1]
        found = _flags_of_file(path, has_model=bool(front) or "--model" in arguments)
        return front + found + arguments[len(front) :]
    return arguments


def _flags_of_file(path: str, *, has_model: bool) -> list[str]:
    import yaml

    try:
        document = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            "INFERWAY0502", f"the configuration file cannot be read: {error}", about=path,
            fix="--config wants a YAML file with one flag a line, such as `port: 8000`",
        ) from None  # fmt: skip
    if not isinstance(document, dict):
        raise UsageError(
            "INFERWAY0502", "the configuration file is not a mapping", about=path,
            fix="--config wants a YAML file with one flag a line, such as `port: 8000`",
        )  # fmt: skip
    flags: list[str] = []
    for key, value in document.items():
        name = "--" + str(key).replace("_", "-")
        if name == "--model" and has_model:
            continue
        if value is True:
            flags.append(name)
        elif value is False:
            flags.append("--no-" + name[2:])
        elif isinstance(value, list):
            flags += [name, *(v if isinstance(v, str) else json.dumps(v) for v in value)]
        elif isinstance(value, dict):
            flags += [name, json.dumps(value)]
        elif value is not None:
            flags.append(f"{name}={value}")
    return flags


def _without_ignored(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Takes out vLLM's flags that have no effect here, with their values."""
    kept: list[str] = []
    ignored: list[str] = []
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        index += 1
        name, equals, _ = argument.partition("=")
        # --compilation-config.level 3 sets one field of a JSON flag.
        name = name.partition(".")[0].rstrip("+")
        if (
            name in IGNORED_SWITCHES
            or name in SHORT_SWITCHES
            or (name.startswith("--no-") and f"--{name[5:]}" in IGNORED_SWITCHES)
        ):
            ignored.append(name)
        elif name in IGNORED_VALUES or name in SHORT_VALUES:
            ignored.append(name)
            if not equals:
                while index < len(arguments) and not arguments[index].startswith("-"):
                    index += 1
                    if not IGNORED_VALUES.get(name, False):
                        break
        elif len(argument) > 2 and argument[:2] == "-O":
            ignored.append("-O")
        else:
            kept.append(argument)
    return kept, ignored


def _options(args: argparse.Namespace, env: Mapping[str, str], ignored: list[str]) -> Options:
    model = args.model_tag or args.model or "facebook/opt-125m"
    warnings = []
    if ignored:
        warnings.append(f"accepted without effect: {' '.join(dict.fromkeys(ignored))}")
    modules = _modules(args.lora_modules or ())
    if modules and not args.enable_lora:
        raise UsageError("INFERWAY0503", "--lora-modules needs LoRA", fix="add --enable-lora")
    profile = _profile(args.profile, args.time_scale, env)
    length = args.max_model_len or 32_768
    engine = _engine(args, env, profile, length)
    keys = tuple(args.api_key or ())
    if not keys and env.get("VLLM_API_KEY"):
        keys = (env["VLLM_API_KEY"],)
    names = tuple(args.served_model_name or (model,))
    if not 0 <= args.port <= 65_535:
        raise UsageError("INFERWAY0501", f"--port {args.port} is not a port")
    return Options(
        model=model,
        served_names=names,
        host=_host(args.host, env),
        port=args.port,
        unix_socket=args.uds,
        root_path=args.root_path.rstrip("/"),
        api_keys=keys,
        max_model_len=length,
        seed=args.seed,
        engine=engine,
        profile=profile,
        lora_enabled=args.enable_lora,
        lora_rank_max=args.max_lora_rank,
        lora_modules=modules,
        runtime_lora=_truthy(env.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "")),
        missing_adapters=tuple(
            p for p in env.get("INFERWAY_SIMULATOR_MISSING_ADAPTERS", "").split(",") if p
        ),
        prompt_tokens_details=args.enable_prompt_tokens_details,
        force_include_usage=args.enable_force_include_usage,
        request_id_headers=args.enable_request_id_headers,
        access_log=not args.disable_uvicorn_access_log
        and args.uvicorn_log_level in ("info", "debug", "trace"),
        quiet_paths=frozenset(p for p in args.disable_access_log_for_endpoints.split(",") if p),
        gpu_memory_utilization=args.gpu_memory_utilization,
        kv_cache_dtype=args.kv_cache_dtype,
        kv_events=args.kv_events_config,
        block_size_given=args.block_size is not None,
        warnings=tuple(warnings),
    )


def _truthy(text: str) -> bool:
    return text.strip().lower() in ("1", "true")


def _host(wanted: str | None, env: Mapping[str, str]) -> str:
    """Where to listen. On the host's network a Pod has one address and must not take all."""
    localhost = env.get("INFERWAY_LOCALHOST", "")
    if localhost and wanted in _LOCAL:
        return localhost
    if localhost and (wanted or "") in _WILDCARDS:
        return env.get("INFERWAY_POD_IP") or localhost
    return wanted or "0.0.0.0"


def _modules(items: Sequence[str]) -> tuple[LoraModule, ...]:
    """Adapters in both of vLLM's forms; a JSON list of them is taken too."""
    modules: list[LoraModule] = []
    for item in items:
        if not item:
            continue
        if "=" in item and "," not in item:
            name, _, path = item.partition("=")
            modules.append(LoraModule(name, path))
            continue
        try:
            found = msgspec.json.decode(item, type=LoraModule | list[LoraModule])
        except msgspec.DecodeError as error:
            raise UsageError(
                "INFERWAY0503", f"--lora-modules {item!r}: {error}",
                fix="write name=path or '{\"name\": \"n\", \"path\": \"p\"}'",
            ) from None  # fmt: skip
        modules += found if isinstance(found, list) else [found]
    names = [module.name for module in modules]
    for name in names:
        if names.count(name) > 1:
            raise UsageError("INFERWAY0503", f"--lora-modules names {name!r} twice")
    return tuple(modules)


def _profile(name: str | None, scale: float | None, env: Mapping[str, str]) -> Profile:
    wanted = name or env.get("INFERWAY_SIMULATOR_PROFILE") or "default"
    profiles = builtin_profiles()
    profile = profiles.get(wanted)
    if profile is None:
        profile = profile_file.load(wanted, tuple(profiles))
    if scale is None:
        text = env.get("INFERWAY_SIMULATOR_TIME_SCALE", "")
        try:
            scale = float(text) if text else 1.0
        except ValueError:
            scale = -1.0
    if not 0 <= scale < float("inf"):
        raise UsageError("INFERWAY0504", "the time scale is not a number of at least 0")
    if scale == 0:
        return msgspec.structs.replace(profiles["instant"], kv_token_bytes=profile.kv_token_bytes)
    return profile.scaled(scale)


def _engine(
    args: argparse.Namespace, env: Mapping[str, str], profile: Profile, length: int
) -> EngineConfig:
    block_size = profile.block_size_tokens if args.block_size is None else args.block_size
    positive = {
        "--block-size": block_size,
        "--max-num-seqs": args.max_num_seqs,
        "--max-loras": args.max_loras,
        "--max-model-len": length,
    }
    for flag, value in positive.items():
        if value < 1:
            raise UsageError("INFERWAY0501", f"{flag} must be at least 1, got {value}")
    if args.max_cpu_loras is not None and args.max_cpu_loras < args.max_loras:
        raise UsageError(
            "INFERWAY0503",
            f"max_cpu_loras ({args.max_cpu_loras}) must be >= max_loras ({args.max_loras})",
        )
    block_bytes = block_size * profile.kv_token_bytes
    blocks = args.num_gpu_blocks_override
    if not blocks:
        memory = args.kv_cache_memory_bytes or _cache_gib(env) * _GIB
        blocks = int(memory // block_bytes)
    if blocks * block_size < length:
        raise UsageError(
            "INFERWAY0505",
            f"To serve at least one request with the model's max seq len ({length}), "
            f"{length * profile.kv_token_bytes / _GIB:.2f} GiB KV cache is needed, which is larger "
            f"than the available KV cache memory ({blocks * block_bytes / _GIB:.2f} GiB)",
            fix="decrease --max-model-len or set VLLM_CPU_KVCACHE_SPACE (GiB) higher",
        )
    budget = args.max_num_batched_tokens or (2048 if args.enable_chunked_prefill else length)
    if budget < args.max_num_seqs or (not args.enable_chunked_prefill and budget < length):
        raise UsageError(
            "INFERWAY0501",
            f"max_num_batched_tokens ({budget}) must be greater than or equal to max_num_seqs "
            f"({args.max_num_seqs}), and without chunked prefill to max_model_len ({length})",
        )
    return EngineConfig(
        block_size_tokens=block_size,
        blocks=blocks,
        batched_tokens_max=budget,
        sequences_max=args.max_num_seqs,
        prefix_caching=args.enable_prefix_caching,
        chunked_prefill=args.enable_chunked_prefill,
        adapters_device_max=args.max_loras,
        adapters_host_max=args.max_cpu_loras or args.max_loras,
    )


def _cache_gib(env: Mapping[str, str]) -> float:
    text = env.get("VLLM_CPU_KVCACHE_SPACE", "")
    try:
        value = float(text) if text else CACHE_GIB
    except ValueError:
        value = -1.0
    if value < 0:
        raise UsageError("INFERWAY0505", f"VLLM_CPU_KVCACHE_SPACE={text!r} is not a number of GiB")
    return value or CACHE_GIB
