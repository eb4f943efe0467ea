"""Kubernetes Events about the syncer's own Pod, where its service account may write them.

Events are hints: no work waits for them and none fails with them. Without a mounted account there
are none; an API server that refuses is asked again after a while, because rights may be given
later. Which Pod this is stands in the account's token, which every kubelet binds to its Pod; a Pod
that is not named there is taken from POD_NAME and POD_UID. Speaks to the API server itself, because
the room knows no Kubernetes client.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from inferway.base.clock import Clock, rfc3339
from inferway.lora.messages import Note

LOG = logging.getLogger(__name__)
ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
COMPONENT = "inferway-lora-syncer"
# One round of a thousand adapters would be a flood; the log has them all.
WAITING_MAX = 200
POST_SECONDS_MAX = 5.0
# Until an API server that refused, or did not answer, is asked again.
REFUSED_SECONDS = 600.0
# An API server keeps Events for an hour. Within that the same words are one Event.
REPEAT_SECONDS = 3000.0
REMEMBERED_MAX = 1000
# The API server refuses longer ones.
MESSAGE_CHARACTERS_MAX = 1024


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where Events go, and about which Pod."""

    url: str
    folder: Path
    namespace: str
    pod: str
    uid: str = ""


def account(env: Mapping[str, str]) -> Account | None:
    """The mounted service account; None where there is none."""
    host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT", "")
    folder = Path(env.get("INFERWAY_SERVICE_ACCOUNT_DIR") or ACCOUNT_FOLDER)
    try:
        token = (folder / "token").read_text().strip()
        namespace = (folder / "namespace").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    bound = _bound_pod(token)
    pod = bound.get("name") or env.get("POD_NAME") or env.get("HOSTNAME", "")
    if not (host and port and namespace and pod):
        return None
    host = f"[{host}]" if ":" in host else host
    return Account(
        url=f"https://{host}:{port}",
        folder=folder,
        namespace=namespace,
        pod=pod,
        uid=bound.get("uid") or env.get("POD_UID", ""),
    )


def _bound_pod(token: str) -> dict[str, str]:
    """Name and uid of the Pod in a token's claims. They are only read, so nothing is verified."""
    try:
        part = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        pod = claims["kubernetes.io"]["pod"]
        return {key: value for key, value in pod.items() if isinstance(value, str)}
    except (IndexError, KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        return {}


class PodEvents:
    """Collects notes; ``run`` writes them until it is cancelled."""

    def __init__(self, where: Account | None, clock: Clock) -> None:
        self._where = where
        self._clock = clock
        self._waiting: OrderedDict[tuple[bool, str, str], float] = OrderedDict()
        self._written: OrderedDict[tuple[bool, str, str], float] = OrderedDict()
        self._arrival = asyncio.Event()
        self._quiet_until = float("-inf")
        self._serial = 0

    def note(self, note: Note) -> None:
        """Never waits and never fails."""
        if self._where is None:
            return
        key = (note.warning, note.reason, note.message[:MESSAGE_CHARACTERS_MAX])
        last = self._written.get(key)
        if last is not None and self._clock.monotonic() - last < REPEAT_SECONDS:
            return
        if len(self._waiting) < WAITING_MAX:
            self._waiting.setdefault(key, self._clock.wall())
            self._arrival.set()

    async def run(self) -> None:
        """Writes what is noted, in order, until cancelled."""
        if self._where is None:
            return
        async with aiohttp.ClientSession() as session:
            while True:
                await self._arrival.wait()
                self._arrival.clear()
                await self._flush(session, self._where)

    async def flush(self) -> None:
        """Writes what is noted, for a program that is about to end."""
        if self._where is not None and self._waiting:
            async with aiohttp.ClientSession() as session:
                await self._flush(session, self._where)

    async def _flush(self, session: aiohttp.ClientSession, where: Account) -> None:
        while self._waiting:
            key, wall = self._waiting.popitem(last=False)
            now = self._clock.monotonic()
            if now < self._quiet_until:
                continue
            problem = await self._post(session, where, self._event(where, key, wall))
            if problem:
                self._quiet_until = now + REFUSED_SECONDS
                LOG.info("Events are not written", extra={"data": {"reason": problem}})
                continue
            self._written[key] = now
            while len(self._written) > REMEMBERED_MAX:
                self._written.popitem(last=False)

    async def _post(
        self, session: aiohttp.ClientSession, where: Account, event: dict[str, Any]
    ) -> str:
        """What went wrong, empty for nothing."""
        url = f"{where.url}/api/v1/namespaces/{where.namespace}/events"
        try:
            # The kubelet renews the token; authorities may be renewed as well.
            token = (where.folder / "token").read_text().strip()
            context = ssl.create_default_context(cafile=str(where.folder / "ca.crt"))
            async with session.post(
                url,
                json=event,
                ssl=context,
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(total=POST_SECONDS_MAX),
            ) as response:
                if response.status in (200, 201, 202):
                    return ""
                if response.status == 403:
                    return "the service account may not create events"
                return f"status {response.status}"
        except TimeoutError:
            return f"no answer within {POST_SECONDS_MAX:g} s"
        except aiohttp.ClientConnectorError as error:
            return f"the API server cannot be reached: {error.os_error.strerror}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return str(error) or type(error).__name__

    def _event(self, where: Account, key: tuple[bool, str, str], wall: float) -> dict[str, Any]:
        warning, reason, message = key
        self._serial += 1
        stamp = int(wall * 1e9) + self._serial
        involved = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": where.namespace,
            "name": where.pod,
            "uid": where.uid,
        }
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{where.pod}.{stamp:x}", "namespace": where.namespace},
            "involvedObject": {name: value for name, value in involved.items() if value},
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": where.pod,
            "firstTimestamp": rfc3339(wall),
            "lastTimestamp": rfc3339(wall),
            "count": 1,
        }
