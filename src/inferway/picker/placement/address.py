"""The address at which other pickers reach this one.

Asks the kernel which of the machine's addresses leads to the API server; sends nothing.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from inferway.cluster.client import KubeClient
from inferway.picker.flags import Options

_ANYWHERE = ("", "0.0.0.0", "::")
HTTPS_PORT = 443


def own_address(client: KubeClient, options: Options) -> str:
    """The bound address if it is one, else that of the route to the API server."""
    bound = options.text("bind-address")
    if bound not in _ANYWHERE:
        return f"[{bound}]" if ":" in bound else bound
    parts = urlsplit(client.config.server)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or HTTPS_PORT, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, target = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)
            address = str(probe.getsockname()[0])
    except OSError:
        return "localhost"
    return f"[{address}]" if ":" in address else address
