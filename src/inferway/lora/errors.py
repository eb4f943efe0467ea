"""What the syncer tells people when something is wrong, each with its code.

- INFERWAY0601 the configuration file cannot be read
- INFERWAY0602 the configuration is not valid
- INFERWAY0603 the model server is not healthy
- INFERWAY0604 the model server does not let adapters be changed
- INFERWAY0605 an adapter could not be loaded or unloaded
- INFERWAY0606 a flag is wrong
- INFERWAY0607 the metrics port cannot be opened
- INFERWAY0608 the model server does not list its models
"""

from __future__ import annotations

from inferway.base.errors import InferwayError, UsageError


def unreadable(path: str, reason: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0601",
        f"the configuration cannot be read: {reason}",
        about=path,
        fix="mount the ConfigMap without subPath and name its file in DYNAMIC_LORA_ROLLOUT_CONFIG",
    )


def invalid(where: str, what: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0602",
        what,
        about=where,
        fix="see vLLMLoRAConfig: ensureExist.models need id and source, ensureNotExist.models id",
    )


def unhealthy(url: str, seconds: float, reason: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0603",
        f"the model server was not healthy within {seconds:g} s ({reason})",
        about=url,
        fix="check the server's own log; the syncer keeps trying",
    )


def not_allowed(url: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0604",
        "the model server has no endpoint to load or unload adapters",
        about=url,
        fix="set VLLM_ALLOW_RUNTIME_LORA_UPDATING=true on the server and start it with "
        "--enable-lora",
    )


def adapter_failed(action: str, name: str, reason: str, retry_seconds: float) -> InferwayError:
    return InferwayError(
        "INFERWAY0605",
        f"could not {action}: {reason}",
        about=f"adapter {name}",
        fix=f"the next attempt is in {retry_seconds:g} s, or when the configuration changes",
    )


def bad_flag(what: str) -> UsageError:
    return UsageError("INFERWAY0606", what, fix="see --help")


def port_taken(address: str, reason: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0607",
        f"metrics cannot be served: {reason}",
        about=address,
        fix="choose another --metrics-port, or 0 for none; syncing goes on",
    )


def not_listed(url: str, reason: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0608",
        f"the model server does not list its models: {reason}",
        about=url,
        fix="check the server's own log; nothing is loaded or unloaded until it answers",
    )
