"""``disagg-profile-handler``: decode, and where a decider says so, encode and prefill elsewhere.

The request goes to the server that decodes; a sidecar there finds in headers who encodes and who
prefills. Deprecated forms: ``pd-profile-handler``, and the helpers that set the headers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferway.scheduling.plugins.base import Context, Decider, Placed, Plugin
from inferway.scheduling.plugins.types import (
    Kind,
    Making,
    Parameter,
    Parameters,
    PluginType,
    plain,
    section,
)
from inferway.scheduling.profile import Choice, Profile, ProfileHandler

PREFILL_HEADER = "x-prefiller-host-port"
ENCODE_HEADER = "x-encoder-hosts-ports"
DECODE_FIRST, PREFILL_FIRST = "decode-first", "prefill-first"
_ORDERS = {
    "": DECODE_FIRST,
    "decode": DECODE_FIRST,
    "decodefirst": DECODE_FIRST,
    "prefill": PREFILL_FIRST,
    "prefillfirst": PREFILL_FIRST,
}


class DisaggProfileHandler(ProfileHandler):
    """Runs the stages that a request needs, and names who does them."""

    def __init__(
        self,
        names: Mapping[str, str],
        encode: Decider | None,
        prefill: Decider | None,
        order: str = DECODE_FIRST,
    ) -> None:
        self._decode = names["decode"]
        self._prefill = names["prefill"]
        self._encode = names["encode"]
        self._encode_decider = encode
        self._prefill_decider = prefill
        self._prefill_first = order == PREFILL_FIRST

    def choose(self, profiles: Mapping[str, Profile], context: Context, slots: list[int]) -> Choice:
        choice = Choice(self._decode)
        if self._prefill_first:
            self._stage(self._prefill, profiles, choice, context, slots)
            context.peer = _first(choice, self._prefill)
            self._encoding(profiles, choice, context, slots, None)
            self._decoding(profiles, choice, context, slots)
        else:
            decoder = self._decoding(profiles, choice, context, slots)
            if decoder is None:
                return choice
            self._encoding(profiles, choice, context, slots, decoder)
            decider = self._prefill_decider
            if decider is not None and decider.wants(context, decoder):
                context.peer = decoder
                self._stage(self._prefill, profiles, choice, context, slots)
        prefills = _first(choice, self._prefill) is not None
        choice.prefill = self._prefill if prefills else ""
        choice.stages = decision_type(
            encode=_first(choice, self._encode) is not None, prefill=prefills
        )
        return choice

    def _decoding(
        self, profiles: Mapping[str, Profile], choice: Choice, context: Context, slots: list[int]
    ) -> int | None:
        order, choice.score = profiles[self._decode].run(context, slots)
        choice.picked[self._decode] = order
        return order[0] if order else None

    def _encoding(
        self,
        profiles: Mapping[str, Profile],
        choice: Choice,
        context: Context,
        slots: list[int],
        decoder: int | None,
    ) -> None:
        decider = self._encode_decider
        if decider is not None and decider.wants(context, decoder):
            self._stage(self._encode, profiles, choice, context, slots)

    @staticmethod
    def _stage(
        name: str,
        profiles: Mapping[str, Profile],
        choice: Choice,
        context: Context,
        slots: list[int],
    ) -> None:
        profile = profiles.get(name)
        if profile is not None:
            choice.picked[name] = profile.run(context, slots)[0]

    def request_headers(self, placed: Placed) -> Sequence[tuple[str, str]]:
        address = placed.context.snapshot.columns.address
        headers = []
        prefill = placed.slot(self._prefill)
        if prefill is not None:
            headers.append((PREFILL_HEADER, address[prefill]))
        encoders = placed.picked.get(self._encode)
        if encoders:
            headers.append((ENCODE_HEADER, ",".join(address[slot] for slot in encoders)))
        return headers

    def check(self, profiles: Sequence[str]) -> str:
        if self._decode not in profiles:
            return f"disagg-profile-handler needs a profile {self._decode!r}"
        for name, decider in (
            (self._encode, self._encode_decider),
            (self._prefill, self._prefill_decider),
        ):
            if decider is not None and name not in profiles:
                return f"disagg-profile-handler has a decider for the profile {name!r}"
        return ""

    def primary(self, profiles: Sequence[str]) -> frozenset[str]:
        return frozenset({self._decode})


def decision_type(*, encode: bool, prefill: bool) -> str:
    """The label of a decision in ``disagg_decision_total``."""
    if encode:
        return "encode-prefill-decode" if prefill else "encode-decode"
    return "prefill-decode" if prefill else "decode-only"


def _first(choice: Choice, name: str) -> int | None:
    slots = choice.picked.get(name)
    return slots[0] if slots else None


def _order(text: str) -> str:
    found = _ORDERS.get(text.lower().replace("-", "").replace("_", ""))
    if found is None:
        raise ValueError(f"must be {DECODE_FIRST} or {PREFILL_FIRST}")
    return found


def _build(making: Making) -> DisaggProfileHandler:
    values = making.parameters
    names = {
        stage: values[f"{stage}Profile"] or values["profiles"][stage]
        for stage in ("decode", "prefill", "encode")
    }
    return DisaggProfileHandler(
        names,
        _decider(making, "deciders.encode", encode_decider(values)),
        _decider(making, "deciders.prefill", prefill_decider(values)),
        values["stageOrder"],
    )


def _build_pd(making: Making) -> DisaggProfileHandler:
    values = making.parameters
    names = {
        "decode": values["decodeProfile"],
        "prefill": values["prefillProfile"],
        "encode": "encode",
    }
    decider = _decider(making, "deciderPluginName", values["deciderPluginName"])
    return DisaggProfileHandler(names, None, decider)


def prefill_decider(values: Parameters) -> str:
    """The decider of the prefill stage under its newest or its older names."""
    newest: str = values["deciders"]["prefill"]
    return newest or values["prefillDeciderPluginName"] or values["deciderPluginName"]


def encode_decider(values: Parameters) -> str:
    """The decider of the encode stage."""
    newest: str = values["deciders"]["encode"]
    return newest or values["encodeDeciderPluginName"]


def _decider(making: Making, place: str, name: str) -> Decider | None:
    if not name:
        return None
    found = making.named.get(name)
    if not isinstance(found, Decider):
        known = ", ".join(sorted(making.named)) or "none"
        raise ValueError(f"{place}: no decider is called {name!r}; configured ones: {known}")
    return found


def _is_decider(other: PluginType) -> bool:
    return other.kind is Kind.DECIDER


def _older(default: str = "", help: str = "") -> Parameter:
    return Parameter(str, default, help=help)


_STAGES: dict[str, Any] = {
    "decode": Parameter(str, "decode", help="Profile that decodes."),
    "prefill": Parameter(str, "prefill", help="Profile that prefills."),
    "encode": Parameter(str, "encode", help="Profile that encodes."),
}
_DECIDERS: dict[str, Any] = {
    "prefill": Parameter(str, "", help="Decider of the prefill stage; none: no such stage."),
    "encode": Parameter(str, "", help="Decider of the encode stage; none: no such stage."),
}
_HELPER = {
    "prefillProfile": Parameter(str, "prefill", unused=True),
    "encodeProfile": Parameter(str, "encode", unused=True),
}
_NEWER = "disagg-profile-handler"

TYPES = (
    PluginType(
        "disagg-profile-handler",
        Kind.PROFILE_HANDLER,
        _build,
        {
            "stageOrder": Parameter(
                str,
                DECODE_FIRST,
                help="decode-first or prefill-first; the latter prefills whenever it can.",
                convert=_order,
            ),
            "profiles": section(_STAGES, "Names of the profiles."),
            "deciders": section(_DECIDERS, "Names of the deciders."),
            "decodeProfile": _older(help="Older form of profiles.decode."),
            "prefillProfile": _older(help="Older form of profiles.prefill."),
            "encodeProfile": _older(help="Older form of profiles.encode."),
            "prefillDeciderPluginName": _older(help="Older form of deciders.prefill."),
            "encodeDeciderPluginName": _older(help="Older form of deciders.encode."),
            "deciderPluginName": _older(help="Older form of deciders.prefill."),
        },
        does=(
            "Decode always; encode and prefill if their deciders want it. Sets "
            f"`{PREFILL_HEADER}` and `{ENCODE_HEADER}`."
        ),
        names=_is_decider,
    ),
    PluginType(
        "pd-profile-handler",
        Kind.PROFILE_HANDLER,
        _build_pd,
        {
            "decodeProfile": _older("decode", "Profile that decodes."),
            "prefillProfile": _older("prefill", "Profile that prefills."),
            "deciderPluginName": _older(help="Decider of the prefill stage."),
            "prefixPluginType": Parameter(str, "", unused=True),
            "prefixPluginName": Parameter(str, "", unused=True),
            "prefixMatchInfoProducerName": Parameter(str, "", unused=True),
            "primaryPort": Parameter(int, 0, unused=True),
        },
        does=f"Decode always, prefill if the decider wants it. Sets `{PREFILL_HEADER}`.",
        names=_is_decider,
        instead=_NEWER,
    ),
    PluginType(
        "disagg-headers-handler",
        Kind.HEADERS,
        plain(Plugin),
        _HELPER,
        does="Nothing: the profile handler sets the headers itself.",
        instead=_NEWER,
    ),
    PluginType(
        "prefill-header-handler",
        Kind.HEADERS,
        plain(Plugin),
        _HELPER,
        does="Nothing: the profile handler sets the headers itself.",
        instead=_NEWER,
    ),
)
