"""What the syncer tells: lines of log, Events and the state for metrics.

Remembers what was told, so that a lasting fault is one line and not one each round. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from inferway.base.errors import InferwayError
from inferway.lora import errors
from inferway.lora.config import Config
from inferway.lora.messages import AdapterState, Command, Load, Model, Note, Report, Say
from inferway.lora.reasons import Problem, Reason, related
from inferway.lora.retry import Failures
from inferway.lora.source import shown


class Teller:
    """One server's story."""

    def __init__(self) -> None:
        # What is true and was said; it is said again only after it was untrue for a while.
        self._said: set[str] = set()
        self._reported: Report | None = None

    def configured(self, url: str, config: Config) -> list[Command]:
        data: dict[str, object] = {
            "server": url,
            "wanted": len(config.wanted),
            "unwanted": len(config.unwanted),
        }
        out: list[Command] = [Say("info", "Configuration is in force", data)]
        named = {f"alone {name} {problem.reason}" for name, problem in config.skipped}
        self._said = {key for key in self._said if not key.startswith("alone ") or key in named}
        for name, problem in config.skipped:
            out += self._left_alone(name, problem)
        return out

    def healthy(self, url: str) -> list[Command]:
        self._said.discard("unhealthy")
        return [Say("info", "The model server is healthy", {"server": url})]

    def waiting(self, url: str) -> list[Command]:
        return [Say("info", "Waiting for the model server", {"server": url})]

    def unhealthy(self, url: str, seconds: float, reason: str) -> list[Command]:
        error = errors.unhealthy(url, seconds, reason)
        return self._once(
            "unhealthy", _error("The model server is not healthy", "ServerNotHealthy", error)
        )

    def not_listed(self, url: str, text: str) -> list[Command]:
        error = errors.not_listed(url, text)
        return self._once("unlisted", _error("Models are not listed", "ModelsNotListed", error))

    def listed(
        self,
        url: str,
        config: Config,
        before: Mapping[str, Model] | None,
        after: Mapping[str, Model],
    ) -> list[Command]:
        """What a list of models shows beside the adapters that are to be changed."""
        self._said.discard("unlisted")
        out: list[Command] = []
        wanted = {adapter.id for adapter in config.wanted}
        gone = sorted(name for name in before or () if name in wanted and name not in after)
        if gone:
            out += _warning("Adapters are lost", "AdaptersLost", errors.lost(url, gone))
        base_models = {name: model.root for name, model in after.items() if not model.parent}
        problem = _name_of_base_model()
        for name in (*(a.id for a in config.wanted), *config.unwanted):
            if name in base_models:
                out += self._left_alone(name, problem)
        served = sorted({*base_models, *filter(None, base_models.values())})
        for adapter in config.wanted:
            base = adapter.base_model
            key = f"base {adapter.id} {base} {served}"
            if base and served and not any(related(base, name) for name in served):
                error = errors.other_base(adapter.id, base, served)
                out += self._once(key, _warning("A base model differs", "BaseModelDiffers", error))
        return out

    def slots(self, url: str, count: int, slots: int) -> list[Command]:
        """``count`` adapters want to be served by ``slots``; 0 slots are not known."""
        if not slots or count <= slots:
            self._said.discard("slots")
            return []
        error = errors.more_than_slots(url, count, slots)
        return self._once("slots", _warning("Adapters take turns", "MoreAdaptersThanSlots", error))

    def loaded(self, load: Load) -> list[Command]:
        name = load.adapter.id
        self._said.discard("not allowed")
        data: dict[str, object] = {"id": name, "source": shown(load.adapter.source)}
        if load.in_place:
            return [
                Say("info", "Adapter is replaced", data),
                Note(False, "AdapterReplaced", f"adapter {name} is served from its new source"),
            ]
        return [
            Say("info", "Adapter is loaded", data),
            Note(False, "AdapterLoaded", f"adapter {name} is loaded"),
        ]

    def unloaded(self, name: str) -> list[Command]:
        return [
            Say("info", "Adapter is unloaded", {"id": name}),
            Note(False, "AdapterUnloaded", f"adapter {name} is unloaded"),
        ]

    def failed(self, name: str, problem: Problem, pause: float) -> list[Command]:
        error = errors.adapter_problem(name, problem, pause)
        told = _error("An adapter was not changed", problem.reason, error)
        if problem.reason is Reason.NOT_ALLOWED:
            # It concerns the server and not this adapter; the others would say the same.
            return self._once("not allowed", told)
        return told

    def restored(self, name: str, path: str) -> list[Command]:
        data: dict[str, object] = {"id": name, "path": path}
        return [Say("warning", "An adapter is back at its old source", data)]

    def not_restored(self, name: str, problem: Problem) -> list[Command]:
        error = errors.adapter_problem(name, problem)
        return _error("An adapter's old source did not come back", problem.reason, error)

    def report(
        self,
        config: Config,
        models: Mapping[str, Model] | None,
        failures: Failures,
        server: tuple[bool, int],
    ) -> list[Command]:
        """A Report if anything has changed. ``server``: whether it is healthy, its slots."""
        states = {name: problem.reason.value for name, problem in config.skipped}
        listed = models or {}
        roots = {name: model.root or name for name, model in listed.items() if model.parent}
        for name in (*(a.id for a in config.wanted), *config.unwanted):
            failure = failures.get(name)
            states[name] = failure.problem.reason.value if failure else ""
            if name in listed and name not in roots:
                states[name] = Reason.NAME_OF_BASE_MODEL.value
        report = Report(
            healthy=server[0],
            slots=server[1],
            adapters={
                name: AdapterState(roots.get(name, ""), reason)
                for name, reason in sorted(states.items())
            },
        )
        if report == self._reported:
            return []
        self._reported = report
        return [report]

    def _left_alone(self, name: str, problem: Problem) -> list[Command]:
        error = errors.adapter_problem(name, problem)
        told = _warning("An adapter is left alone", problem.reason, error)
        return self._once(f"alone {name} {problem.reason}", told)

    def _once(self, key: str, commands: list[Command]) -> list[Command]:
        if key in self._said:
            return []
        self._said.add(key)
        return commands


def _name_of_base_model() -> Problem:
    return Problem(Reason.NAME_OF_BASE_MODEL, "it has the name of a base model of the server")


def one_line(error: InferwayError) -> str:
    """An error for an Event's message: equal for equal causes, so without the next attempt."""
    return " ".join(f"{error.about}: {error.what} [{error.code}]".split())


def _error(message: str, reason: str, error: InferwayError) -> list[Command]:
    return [Say("error", message, {"error": str(error)}), Note(True, reason, one_line(error))]


def _warning(message: str, reason: str, error: InferwayError) -> list[Command]:
    return [Say("warning", message, {"error": str(error)}), Note(True, reason, one_line(error))]
