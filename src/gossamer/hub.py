"""Is the Hugging Face hub there? Without asking, a machine without a network retries and waits."""

import socket
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies


@cache
def hub_reachable() -> bool:
    """The hub's name can be resolved, or there is a proxy that may know it. Asked once."""
    from huggingface_hub.constants import ENDPOINT

    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
