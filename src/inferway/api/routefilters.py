"""Filters of HTTPRoutes and the backends that they may name.

Typed views for reading, and a part of HTTPRoute's CRD. ``gateway.py`` exports these names.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from inferway.api.codec import ApiStruct
from inferway.api.fields import (
    ATOMIC,
    SET,
    GroupName,
    HeaderName,
    Int32,
    KindName,
    NamespaceName,
    ObjectName,
    PortNumber,
    PreciseHostname,
    Rule,
    field,
    map_of,
)

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
ORIGIN_PATTERN = (
    r"(^\*$)|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$)"
)
PATH_PATTERN = r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$"
# Printable, without line ends, so that a value can not become another header.
HEADER_VALUE = field(minLength=1, maxLength=4096, pattern=r"^[!-~]+([\t ]?[!-~]+)*$")


_PORT_RULE: Rule = (
    "size(self.group) == 0 && self.kind == 'Service' ? has(self.port) : true",
    "Must have port for Service reference",
)


class BackendObjectReference(ApiStruct, frozen=True, kw_only=True):
    """A Service, an InferencePool, or an object like them."""

    cel: ClassVar[tuple[Rule, ...]] = (_PORT_RULE,)
    group: Annotated[GroupName, field("Group of the backend.", default="")] = ""
    kind: Annotated[KindName, field("Kind of the backend.", default="Service")] = "Service"
    name: Annotated[ObjectName, field("Name of the backend.")]
    namespace: Annotated[NamespaceName, field("Namespace of the backend.")] = ""
    port: Annotated[PortNumber | None, field("Port of the Service.")] = None


class HTTPHeader(ApiStruct, frozen=True, kw_only=True):
    """A header and its value."""

    name: Annotated[HeaderName, field("Name of the header, in any case.")]
    value: Annotated[str, field("Value of the header."), HEADER_VALUE]


class HeaderFilter(ApiStruct, frozen=True, kw_only=True):
    """Changes of headers."""

    set: Annotated[
        tuple[HTTPHeader, ...],
        field("Headers that replace others.", maxItems=16, **map_of("name")),
    ] = ()
    add: Annotated[
        tuple[HTTPHeader, ...], field("Headers that are added.", maxItems=16, **map_of("name"))
    ] = ()
    remove: Annotated[
        tuple[str, ...], field("Names of headers that are removed.", maxItems=16, **SET)
    ] = ()


class Fraction(ApiStruct, frozen=True, kw_only=True):
    """A share of requests."""

    cel: ClassVar[tuple[Rule, ...]] = (
        (
            "self.numerator <= self.denominator",
            "numerator must be less than or equal to denominator",
        ),
    )
    numerator: Annotated[Int32, field("The upper number.", minimum=0)]
    denominator: Annotated[Int32, field("The lower number.", default=100, minimum=1)] = 100


class MirrorFilter(ApiStruct, frozen=True, kw_only=True):
    """Copies of requests for another backend, whose answers nobody sees."""

    cel: ClassVar[tuple[Rule, ...]] = (
        (
            "!(has(self.percent) && has(self.fraction))",
            "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter",
        ),
    )
    backend_ref: Annotated[BackendObjectReference, field("Where copies go.")]
    percent: Annotated[
        Int32 | None, field("Percent of the requests.", format="int32", minimum=0, maximum=100)
    ] = None
    fraction: Annotated[Fraction | None, field("Share of the requests.")] = None


class PathModifier(ApiStruct, frozen=True, kw_only=True):
    """A change of the path."""

    cel: ClassVar[tuple[Rule, ...]] = (
        (
            "self.type == 'ReplaceFullPath' ? has(self.replaceFullPath) : true",
            "replaceFullPath must be specified when type is set to 'ReplaceFullPath'",
        ),
        (
            "has(self.replaceFullPath) ? self.type == 'ReplaceFullPath' : true",
            "type must be 'ReplaceFullPath' when replaceFullPath is set",
        ),
        (
            "self.type == 'ReplacePrefixMatch' ? has(self.replacePrefixMatch) : true",
            "replacePrefixMatch must be specified when type is set to 'ReplacePrefixMatch'",
        ),
        (
            "has(self.replacePrefixMatch) ? self.type == 'ReplacePrefixMatch' : true",
            "type must be 'ReplacePrefixMatch' when replacePrefixMatch is set",
        ),
    )
    type: Annotated[
        str,
        field("How the path changes.", enum=["ReplaceFullPath", "ReplacePrefixMatch"]),
    ]
    replace_full_path: Annotated[str | None, field("The new path.", maxLength=1024)] = None
    replace_prefix_match: Annotated[
        str | None, field("What replaces the matched prefix.", maxLength=1024)
    ] = None


class RedirectFilter(ApiStruct, frozen=True, kw_only=True):
    """An answer that sends the client elsewhere; what is left out stays as requested."""

    scheme: Annotated[str, field("Scheme of the new location.", enum=["http", "https"])] = ""
    hostname: Annotated[PreciseHostname, field("Host of the new location.")] = ""
    path: Annotated[PathModifier | None, field("Path of the new location.")] = None
    port: Annotated[PortNumber | None, field("Port of the new location.")] = None
    status_code: Annotated[
        int, field("Status of the answer.", default=302, enum=[301, 302, 303, 307, 308])
    ] = 302


class RewriteFilter(ApiStruct, frozen=True, kw_only=True):
    """A change of the request on its way to the backend."""

    hostname: Annotated[PreciseHostname, field("The Host header that is sent.")] = ""
    path: Annotated[PathModifier | None, field("The path that is sent.")] = None


class CORSFilter(ApiStruct, frozen=True, kw_only=True):
    """Which pages of other origins may use the route."""

    allow_origins: Annotated[
        tuple[
            Annotated[str, field(minLength=1, maxLength=253, pattern=ORIGIN_PATTERN)],
            ...,
        ],
        field(
            "Origins that may.",
            maxItems=64,
            **SET,
            x_kubernetes_validations=[
                {
                    "rule": "!('*' in self && self.size() > 1)",
                    "message": "AllowOrigins cannot contain '*' alongside other origins",
                }
            ],
        ),
    ] = ()
    allow_credentials: Annotated[bool, field("Whether cookies and credentials may come.")] = False
    allow_methods: Annotated[
        tuple[Annotated[str, field(enum=[*METHODS, "*"])], ...],
        field(
            "Methods that may be used.",
            maxItems=9,
            **SET,
            x_kubernetes_validations=[
                {
                    "rule": "!('*' in self && self.size() > 1)",
                    "message": "AllowMethods cannot contain '*' alongside other methods",
                }
            ],
        ),
    ] = ()
    allow_headers: Annotated[
        tuple[HeaderName, ...],
        field(
            "Headers that may be sent.",
            maxItems=64,
            **SET,
            x_kubernetes_validations=[
                {
                    "rule": "!('*' in self && self.size() > 1)",
                    "message": "AllowHeaders cannot contain '*' alongside other methods",
                }
            ],
        ),
    ] = ()
    expose_headers: Annotated[
        tuple[HeaderName, ...], field("Headers that pages may read.", maxItems=64, **SET)
    ] = ()
    max_age: Annotated[
        Int32, field("Seconds for which a preflight answer is good.", default=5, minimum=1)
    ] = 5


class ExtensionRef(ApiStruct, frozen=True, kw_only=True):
    """An object of the controller's own that is a filter."""

    group: Annotated[GroupName, field("Group of the object.")]
    kind: Annotated[KindName, field("Kind of the object.")]
    name: Annotated[ObjectName, field("Name of the object.")]


class GRPCAuthConfig(ApiStruct, frozen=True, kw_only=True):
    """Authorization by gRPC."""

    allowed_headers: Annotated[
        tuple[str, ...], field("Headers that are sent.", maxItems=64, **SET)
    ] = ()


class HTTPAuthConfig(ApiStruct, frozen=True, kw_only=True):
    """Authorization by HTTP."""

    path: Annotated[
        str, field("Prefix of the request's path.", maxLength=1024, pattern=PATH_PATTERN)
    ] = ""
    allowed_headers: Annotated[
        tuple[str, ...], field("Headers that are sent.", maxItems=64, **SET)
    ] = ()
    allowed_response_headers: Annotated[
        tuple[str, ...], field("Headers that go on to the backend.", maxItems=64, **SET)
    ] = ()


class ForwardBody(ApiStruct, frozen=True, kw_only=True):
    """How much of the body the authorization sees."""

    max_size: Annotated[Int32, field("Bytes at most; 0 means none.", minimum=0)] = 0


class ExternalAuthFilter(ApiStruct, frozen=True, kw_only=True):
    """A server that is asked before a request goes on."""

    protocol: Annotated[str, field("How it is asked.", enum=["HTTP", "GRPC"])]
    backend_ref: Annotated[BackendObjectReference, field("Who is asked.")]
    grpc: Annotated[GRPCAuthConfig | None, field("For GRPC.")] = None
    http: Annotated[HTTPAuthConfig | None, field("For HTTP.")] = None
    forward_body: Annotated[ForwardBody | None, field("The body that is sent along.")] = None


_FILTER_FIELDS = (
    ("CORS", "cors"),
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("ExternalAuth", "externalAuth"),
    ("ExtensionRef", "extensionRef"),
)


def filter_rules(fields: tuple[tuple[str, str], ...]) -> tuple[Rule, ...]:
    """Each type of filter has its own field, and only that one."""
    return tuple(
        rule
        for type_, name in fields
        for rule in (
            (
                f"!(has(self.{name}) && self.type != '{type_}')",
                f"filter.{name} must be nil if the filter.type is not {type_}",
            ),
            (
                f"!(!has(self.{name}) && self.type == '{type_}')",
                f"filter.{name} must be specified for {type_} filter.type",
            ),
        )
    )


def once_rules(*types: str) -> list[dict[str, str]]:
    """Filters of these types stand in a list once at most."""
    return [
        {
            "rule": f"self.filter(f, f.type == '{type_}').size() <= 1",
            "message": f"{type_} filter cannot be repeated",
        }
        for type_ in types
    ]


_FILTERS_RULES = [
    {
        "rule": "!(self.exists(f, f.type == 'RequestRedirect') && self.exists(f, f.type == "
        "'URLRewrite'))",
        "message": "May specify either httpRouteFilterRequestRedirect or "
        "httpRouteFilterRequestRewrite, but not both",
    },
    *once_rules(
        "CORS", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite"
    ),
]


class HTTPRouteFilter(ApiStruct, frozen=True, kw_only=True):
    """A step between request and backend; its field has the type's name."""

    cel: ClassVar[tuple[Rule, ...]] = filter_rules(_FILTER_FIELDS)
    type: Annotated[str, field("Which step it is.", enum=[type_ for type_, _ in _FILTER_FIELDS])]
    request_header_modifier: Annotated[
        HeaderFilter | None, field("Changes of request headers.")
    ] = None
    response_header_modifier: Annotated[
        HeaderFilter | None, field("Changes of response headers.")
    ] = None
    request_mirror: Annotated[MirrorFilter | None, field("Copies for another backend.")] = None
    request_redirect: Annotated[RedirectFilter | None, field("An answer to go elsewhere.")] = None
    url_rewrite: Annotated[RewriteFilter | None, field("Changes of host and path.")] = None
    cors: Annotated[CORSFilter | None, field("Rules for pages of other origins.")] = None
    external_auth: Annotated[ExternalAuthFilter | None, field("A server that is asked.")] = None
    extension_ref: Annotated[ExtensionRef | None, field("A filter of the controller's.")] = None


Filters = Annotated[
    tuple[HTTPRouteFilter, ...],
    field(maxItems=16, **ATOMIC, x_kubernetes_validations=_FILTERS_RULES),
]


class BackendRef(BackendObjectReference, frozen=True, kw_only=True):
    """A backend and its share of the requests."""

    weight: Annotated[
        Int32,
        field("Share among the rule's backends.", default=1, minimum=0, maximum=1_000_000),
    ] = 1
    filters: Annotated[Filters, field("Filters for this backend only.")] = ()
