"""A simulated vLLM server without its socket: models, engine, metrics, and the table of routes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from inferway.simulator import (
    adapters_api,
    chat,
    completions,
    generate_api,
    messages_api,
    other_api,
    responses_api,
    scoring_api,
)
from inferway.simulator.decoding import Decoder
from inferway.simulator.engine.engine import Engine
from inferway.simulator.engine.values import Step
from inferway.simulator.errors import ApiError, PlainError
from inferway.simulator.generation import Generation
from inferway.simulator.http import TEXT, VARY, Exchange
from inferway.simulator.metrics import Metrics
from inferway.simulator.models import Models
from inferway.simulator.options import Options
from inferway.simulator.pump import EnginePump
from inferway.simulator.requests import StreamOptions

if TYPE_CHECKING:
    # ZeroMQ is not loaded by a server that publishes nothing.
    from inferway.simulator.kv_events import KvPublisher

Route = Callable[["App", Exchange], None]
# Longer ids would be copied into every chunk of a stream.
REQUEST_ID_CHARACTERS_MAX = 256


# vLLM allows every method and, unless it is told of some, no other origin.
_PREFLIGHT = (
    b"vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers, "
    b"Access-Control-Request-Private-Network\r\n"
    b"access-control-allow-methods: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY\r\n"
    b"access-control-max-age: 600\r\n"
)


def _is_preflight(exchange: Exchange) -> bool:
    return bool(exchange.header(b"origin") and exchange.header(b"access-control-request-method"))


def invocations(app: App, exchange: Exchange) -> None:
    """SageMaker's one path for everything: chats have messages, completions have not."""
    chat_like = b'"messages"' in exchange.body
    (chat if chat_like else completions).handle(app, exchange)


def routes(*, runtime_lora: bool) -> dict[str, dict[str, Route]]:
    """Handlers by path and method. Adapters can only be changed where vLLM would allow it."""
    table: dict[str, dict[str, Route]] = {
        "/v1/completions": {"POST": completions.handle},
        "/v1/chat/completions": {"POST": chat.handle},
        "/v1/responses": {"POST": responses_api.handle},
        "/v1/embeddings": {"POST": other_api.embeddings},
        "/v1/messages": {"POST": messages_api.messages},
        "/v1/messages/count_tokens": {"POST": messages_api.count_tokens},
        "/inference/v1/generate": {"POST": generate_api.handle},
        "/score": {"POST": scoring_api.score},
        "/v1/score": {"POST": scoring_api.score},
        "/rerank": {"POST": scoring_api.rerank},
        "/v1/rerank": {"POST": scoring_api.rerank},
        "/v2/rerank": {"POST": scoring_api.rerank},
        "/pooling": {"POST": scoring_api.pooling},
        "/classify": {"POST": scoring_api.classify},
        "/v1/models": {"GET": other_api.models},
        "/tokenize": {"POST": other_api.tokenize},
        "/detokenize": {"POST": other_api.detokenize},
        "/invocations": {"POST": invocations},
        "/health": {"GET": other_api.health},
        "/ping": {"GET": other_api.health, "POST": other_api.health},
        "/load": {"GET": other_api.load},
        "/version": {"GET": other_api.version},
        # Mounted as a program of its own in vLLM, which looks at no method.
        "/metrics": {"*": other_api.metrics},
        "/metrics/": {"*": other_api.metrics},
    }
    if runtime_lora:
        table["/v1/load_lora_adapter"] = {"POST": adapters_api.load}
        table["/v1/unload_lora_adapter"] = {"POST": adapters_api.unload}
    return table


class App:
    """All state of one server. ``say`` writes one line of log."""

    def __init__(
        self, options: Options, loop: asyncio.AbstractEventLoop, say: Callable[[str], None]
    ) -> None:
        self.options = options
        self.loop = loop
        self.say = say
        self.decoder = Decoder()
        self.started_wall = time.time()
        self.models = Models(options.served_names, options.lora_enabled, options.missing_adapters)
        self.metrics = Metrics(options.served_names[0], options.max_model_len, self.started_wall)
        self.engine = Engine(options.engine, options.profile)
        self.pump = EnginePump(self.engine, loop, self)
        self.publisher: KvPublisher | None = None
        self.in_flight = 0
        self._routes = routes(runtime_lora=options.runtime_lora)
        self._adapters_active = False
        for module in options.lora_modules:
            self.models.begin_load(module)
            self.models.finish_load(module)
            self.engine.adapters.preload(module.name)

    def publish_to(self, publisher: KvPublisher) -> None:
        """Tells what becomes of the cache's blocks from here on."""
        self.engine.record()
        self.publisher = publisher

    def handle(self, exchange: Exchange) -> None:
        """Answers one request, whatever it is."""
        options = self.options
        path = exchange.path
        if options.root_path:
            path = path.removeprefix(options.root_path)
        if options.request_id_headers:
            identity = exchange.header(b"x-request-id") or os.urandom(16).hex().encode()
            exchange.extra_headers = b"x-request-id: %s\r\n%s" % (identity, VARY)
        methods = self._routes.get(path)
        if methods is None and path.startswith("/v1/responses/"):
            methods = {"GET": responses_api.unknown}
        try:
            if options.api_keys and path.startswith("/v1") and not self._authorized(exchange):
                exchange.respond(401, b'{"error":"Unauthorized"}')
                return
            if exchange.method == "OPTIONS" and _is_preflight(exchange):
                exchange.extra_headers = _PREFLIGHT
                exchange.respond(400, b"Disallowed CORS origin", TEXT)
                return
            if methods is None:
                self._unknown(exchange, path)
                return
            route = methods.get(exchange.method) or methods.get("*")
            if route is None:
                allow = b"allow: %s\r\n" % ", ".join(sorted(methods)).encode()
                raise PlainError("Method Not Allowed", 405, allow)
            route(self, exchange)
        except PlainError as error:
            exchange.extra_headers += error.headers
            exchange.respond(error.status, error.body())
        except ApiError as error:
            exchange.respond(error.status, error.body())
        except RecursionError:
            deep = ApiError("Request body is nested too deeply.", kind="Bad Request")
            exchange.respond(deep.status, deep.body())
        except Exception as error:
            # A fault of ours is told to the client and costs nobody else their connection.
            self.say(f"ERROR {type(error).__name__} while answering {path}: {error}")
            fault = ApiError("Internal server error", status=500, kind="InternalServerError")
            exchange.respond(fault.status, fault.body())

    def _unknown(self, exchange: Exchange, path: str) -> None:
        """A path with a slash too many is sent to the right one. Raises PlainError."""
        shorter = path.rstrip("/")
        if path.startswith("//") or shorter == path or shorter not in self._routes:
            raise PlainError("Not Found", 404)
        query = f"?{exchange.query}" if exchange.query else ""
        host = exchange.header(b"host").decode("latin-1")
        where = f"http://{host}{self.options.root_path}{shorter}{query}"
        exchange.extra_headers += b"location: %s\r\n" % where.encode("latin-1")
        exchange.respond(307, b"", b"")

    def stepped(self, step: Step) -> None:
        """Counts what a step of the engine did."""
        metrics = self.metrics
        metrics.queried_tokens += step.cache_queried_tokens
        metrics.hit_tokens += step.cache_hit_tokens
        metrics.preemptions += step.preempted
        metrics.tokens.step.observe(step.prefill_tokens + step.decode_tokens)
        if self.publisher is not None:
            log = self.engine.take_log()
            if log:
                self.publisher.publish(log)
        if self.options.lora_enabled:
            stats = self.engine.stats()
            metrics.lora(stats.running_adapters, stats.waiting_adapters, time.time())

    def wall_second(self) -> int:
        return int(time.time())

    def request_id(self, prefix: bytes, exchange: Exchange, wanted: str | None) -> str:
        """The id of a response: the caller's X-Request-Id, its ``request_id``, or a fresh one."""
        given = exchange.header(b"x-request-id").decode("latin-1") or wanted
        identity = (given or os.urandom(16).hex())[:REQUEST_ID_CHARACTERS_MAX]
        return prefix.decode() + identity

    def set_stream(
        self, generation: Generation, stream: bool | None, wanted: StreamOptions | None
    ) -> None:
        """Decides whether and with what usage a response is streamed."""
        generation.stream = bool(stream)
        forced = self.options.force_include_usage
        generation.include_usage = forced or (wanted is not None and bool(wanted.include_usage))
        generation.continuous_usage = self.continuous_usage(wanted)

    def continuous_usage(self, wanted: StreamOptions | None) -> bool:
        """Whether every event of a stream carries the usage so far."""
        if wanted is None:
            return False
        if self.options.force_include_usage:
            return True
        return bool(wanted.include_usage) and bool(wanted.continuous_usage_stats)

    def _authorized(self, exchange: Exchange) -> bool:
        scheme, _, key = exchange.header(b"authorization").decode("latin-1").partition(" ")
        return scheme.lower() == "bearer" and key in self.options.api_keys
