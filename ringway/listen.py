"""Which option is wrong where a service cannot listen; nodes and lookups say it alike."""

from __future__ import annotations

import errno
import socket

from .core.errors import ConfigError


def cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    """The error to raise for what resolving `host`, or binding to it, raised."""
    if isinstance(error, socket.gaierror):
        why = f"cannot be resolved ({error.strerror}); give an address of this machine"
        return ConfigError("RINGWAY_HOST", host, why)
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError("RINGWAY_HOST", host, "is no address of this machine; 0.0.0.0 listens at all that it has")
    if error.errno == errno.EACCES:
        return ConfigError("RINGWAY_PORT", port, f"may not be listened on at {host}; choose one above 1023 (0 = any)")
    why = f"cannot be listened on at {host} ({error.strerror}); stop what uses it, or choose another (0 = any)"
    return ConfigError("RINGWAY_PORT", port, why)
