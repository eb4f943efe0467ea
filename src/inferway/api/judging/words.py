"""Checks of single values that many kinds share: names, ports, labels, selectors, numbers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from inferway.api.schema import errors
from inferway.api.schema.errors import FieldError, child

LABEL_LENGTH_MAX = 63
SUBDOMAIN_LENGTH_MAX = 253
PORT_NAME_LENGTH_MAX = 15
PORT_MAX = 65535

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_PERCENT = re.compile(r"[0-9]+%")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "
    "used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or "
    "'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    "or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_KEY_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or "
    "'93%', regex used for validation is '[0-9]+%')"
)
_PORT_TEXT = f"must be between 1 and {PORT_MAX}, inclusive"
NOT_NEGATIVE = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"

Errors = Iterator[FieldError]


def dns_label(path: str, value: str) -> Errors:
    if len(value) > LABEL_LENGTH_MAX:
        yield errors.invalid(path, value, f"must be no more than {LABEL_LENGTH_MAX} characters")
    if not _LABEL.fullmatch(value):
        dotted = bool(_SUBDOMAIN.fullmatch(value))
        yield errors.invalid(path, value, "must not contain dots" if dotted else LABEL_TEXT)


def dns_1035_label(path: str, value: str) -> Errors:
    """A label that begins with a letter, as a Service's name must."""
    if len(value) > LABEL_LENGTH_MAX:
        yield errors.invalid(path, value, f"must be no more than {LABEL_LENGTH_MAX} characters")
    if not _LABEL_1035.fullmatch(value):
        yield errors.invalid(path, value, _LABEL_1035_TEXT)


def dns_subdomain(path: str, value: str) -> Errors:
    if len(value) > SUBDOMAIN_LENGTH_MAX:
        yield errors.invalid(path, value, f"must be no more than {SUBDOMAIN_LENGTH_MAX} characters")
    if not _SUBDOMAIN.fullmatch(value):
        yield errors.invalid(path, value, SUBDOMAIN_TEXT)


def config_key(path: str, value: str) -> Errors:
    if not _CONFIG_KEY.fullmatch(value) or value in (".", ".."):
        yield errors.invalid(path, value, _CONFIG_KEY_TEXT)


def port_number(path: str, value: int) -> Errors:
    if not 1 <= value <= PORT_MAX:
        yield errors.invalid(path, value, _PORT_TEXT)


def port_name(path: str, value: str) -> Errors:
    """A service name of IANA."""
    wrong = (
        (len(value) > PORT_NAME_LENGTH_MAX, "must be no more than 15 characters"),
        (
            not re.fullmatch("[-a-z0-9]+", value),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (not re.search("[a-z]", value), "must contain at least one letter (a-z)"),
        ("--" in value, "must not contain consecutive hyphens"),
        (value[:1] == "-" or value[-1:] == "-", "must not begin or end with a hyphen"),
    )
    yield from (errors.invalid(path, value, text) for found, text in wrong if found)


def port(path: str, value: int | str) -> Errors:
    """A port by number or by name."""
    if isinstance(value, int):
        yield from port_number(path, value)
    else:
        yield from port_name(path, value)


def not_negative(path: str, value: Any) -> Errors:
    if isinstance(value, int) and value < 0:
        yield errors.invalid(path, value, NOT_NEGATIVE)


def one_of(path: str, value: Any, choices: tuple[str, ...]) -> Errors:
    if value not in choices:
        yield errors.not_supported(path, value, choices)


def labels(path: str, values: Mapping[str, str] | None) -> Errors:
    for name, value in (values or {}).items():
        yield from label_key(path, name)
        yield from label_value(path, value)


def label_key(path: str, name: str) -> Errors:
    yield from (errors.invalid(path, name, text) for text in _key_texts(name))


def annotation_key(path: str, name: str) -> Errors:
    """As a label's, but for upper case in its prefix."""
    yield from (errors.invalid(path, name, text) for text in _key_texts(name.lower()))


def _key_texts(name: str) -> Iterator[str]:
    prefix, slash, part = name.rpartition("/")
    if "/" in prefix:
        yield (
            f"a valid label key {_KEY_TEXT} with an optional DNS subdomain prefix and '/' (e.g. "
            "'example.com/MyName')"
        )
        return
    if slash and not prefix:
        yield "prefix part must be non-empty"
    elif slash and len(prefix) > SUBDOMAIN_LENGTH_MAX:
        yield f"prefix part must be no more than {SUBDOMAIN_LENGTH_MAX} bytes"
    if prefix and not _SUBDOMAIN.fullmatch(prefix):
        yield f"prefix part {SUBDOMAIN_TEXT}"
    if not part:
        yield "name part must be non-empty"
    elif len(part) > LABEL_LENGTH_MAX:
        yield f"name part must be no more than {LABEL_LENGTH_MAX} bytes"
    if not _QUALIFIED.fullmatch(part):
        yield f"name part {_KEY_TEXT}"


def label_value(path: str, value: str) -> Errors:
    if len(value) > LABEL_LENGTH_MAX:
        yield errors.invalid(path, value, f"must be no more than {LABEL_LENGTH_MAX} bytes")
    if not _LABEL_VALUE.fullmatch(value):
        yield errors.invalid(path, value, _LABEL_VALUE_TEXT)


_OPERATORS = ("DoesNotExist", "Exists", "In", "NotIn")


def label_selector(path: str, selector: Mapping[str, Any] | None) -> Errors:
    """A LabelSelector."""
    selector = selector or {}
    yield from labels(child(path, "matchLabels"), selector.get("matchLabels"))
    for place, expression in enumerate(selector.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{place}]"
        operator, values = expression.get("operator"), expression.get("values")
        yield from label_key(f"{here}.key", expression.get("key") or "")
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be specified when `operator` is 'In' or 'NotIn'"
                yield errors.required(f"{here}.values", text)
        elif operator in _OPERATORS:
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                yield errors.forbidden(f"{here}.values", text)
        else:
            yield errors.invalid(f"{here}.operator", operator, "not a valid selector operator")


def ip(path: str, value: str) -> Errors:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        yield errors.invalid(path, value, text)


def amount_or_percent(path: str, value: int | str) -> Errors:
    """A count, or a percentage in a text."""
    if isinstance(value, int):
        yield from not_negative(path, value)
    elif not _PERCENT.fullmatch(value):
        yield errors.invalid(path, value, _PERCENT_TEXT)


def unchanged(path: str, value: Any, old: Any) -> Errors:
    if value != old:
        yield errors.invalid(path, value, IMMUTABLE)
