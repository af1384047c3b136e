"""What ringway keeps in Redis: logs of messages, positions, presence, the copy of the ring.

The data is described in keys.py; docs/decisions/0030-redis-restarts.md says what a restart of Redis does to it.
"""

from .publisher import Publisher, Sent

__all__ = ["Publisher", "Sent"]
