"""Writes docs/reference/requests.md from the picker's tables, so that the page cannot go stale.

Run by ``make reference``; a test compares the page with what this prints.
"""

from __future__ import annotations

from pathlib import Path

from inferway.gateway.envoy.hygiene import CONTROL_HEADERS
from inferway.picker.apis import APIS, PASSTHROUGH, Api, Style
from inferway.picker.wishes import HEADERS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "requests.md"
HEADING = """# Requests: paths and headers

What the picker reads of a request. This page is generated: `make reference`.

## Paths

The longest ending that fits a path says which call it is; what stands before it does not
matter. A body is read as far as it is needed to choose a server, and goes on as the client sent
it.

- A call that *needs a model* is refused with 400 without one, unless an InferenceModelRewrite
  has a rule without `matches`. The others go to any server then.
- *Prompt* says which parts are taken for the cached prefix and for the cost. Pictures, sound
  and films in content parts count as llm-d counts them (a token per 1024 pixels), token ids as
  themselves.
- Any other path goes to a server that has its `model`, if it is JSON with one, and else to the
  one with the least to do. So does a body with a `Content-Encoding`, which nobody looks into,
  and a request without a body.
- `GET` of a path that ends in `/v1/models` is answered by the picker: all that the pool's
  servers have, adapters with their `parent`, and the names that InferenceModelRewrites add.
- `requestHandler.parsers` of an `EndpointPickerConfig` leaves the listed parsers' paths. Others
  go by load where `passthrough-parser` is listed, and are refused with 400 `unsupported_path`
  where it is not.
- A byte order mark is passed over. Of keys that stand twice the last counts, as for servers.
  Half of a surrogate pair, nesting without end and what is no JSON are refused with 400 by
  calls that need a model.

| path ends in | kind | needs a model | prompt | parser | errors as |
|---|---|---|---|---|---|
"""
HEADERS_HEADING = """
## Headers

Where two names stand, the first counts if a request has both. A value that can not be understood
counts as none.

| header | meaning | goes to the server |
|---|---|---|
"""
ENDING = """
A pool's `EndpointPickerConfig` may have plugins that read further headers; those reach them as
well. Removed from every request before anybody looks: `x-gateway-destination-endpoint` and its
relatives, and everything that begins with `x-inferway-`, so that no client chooses a server
itself.
"""


def page() -> str:
    """The whole page."""
    rows = [_row(api) for api in sorted(APIS, key=lambda api: api.ending)]
    lines = [HEADING, *rows, HEADERS_HEADING]
    for header in HEADERS:
        names = ", ".join(f"`{name}`" for name in header.names)
        gone = set(header.names) <= set(CONTROL_HEADERS) or header.names[0].startswith("x-inferway")
        lines.append(f"| {names} | {header.meaning} | {'no' if gone else 'yes'} |\n")
    return "".join([*lines, ENDING])


def _row(api: Api) -> str:
    fields = ", ".join(f"`{word}`" for word in api.prompt.split(", ")) if api.prompt else ""
    words = "Anthropic" if api.style is Style.ANTHROPIC else "OpenAI"
    needed = "yes" if api.needed else "no"
    parser = f"`{api.parser or PASSTHROUGH}`"
    return f"| `{api.ending}` | {api.kind} | {needed} | {fields} | {parser} | {words} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
