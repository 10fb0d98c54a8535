"""No test reaches beyond this machine. Every Python that the tests start finds this file through PYTHONPATH, and refuses."""

import os
import sys

LOCAL = {"", "localhost", "0.0.0.0", "::", "::1", os.uname().nodename}


def is_local(host: object) -> bool:
    """Whether a host is this machine; what is no host name or internet address (a socket's path, None) is."""
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    return not isinstance(host, str) or host in LOCAL or host.startswith("127.")


def refuse(event: str, args: tuple) -> None:
    """Audit hook: an OSError, as on a machine without a network."""
    if event in ("socket.connect", "socket.sendto"):
        host = args[1][0] if isinstance(args[1], tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if not is_local(host):
        raise OSError(f"tests run without a network, not even {host}")


sys.addaudithook(refuse)
