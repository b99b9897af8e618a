"""What a Redis server refuses, in words a person can act on: once, without the names of our scripts."""

from __future__ import annotations

import pytest
from redis.exceptions import AuthenticationError, ReadOnlyError, ResponseError

from backend.memory.redis.connection import Address, store_failed

SCRIPT = " script: d58d1366df500a8983006110af476030e20581eb, on @user_script:3."


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            AuthenticationError("Authentication required."),
            "Authentication required. Set TEKTON_REDIS_PASSWORD",
        ),
        (ReadOnlyError(f"You can't write against a read only replica.{SCRIPT}"), "replica. It is a replica"),
        (ResponseError(f"NOREPLICAS Not enough good replicas to write.{SCRIPT}"), "min-replicas-to-write"),
        (ResponseError(f"ERR something new{SCRIPT}"), "something new. See the log of the Redis server."),
    ],
)
def test_what_the_server_refused_is_said_once_with_what_mends_it(error: Exception, told: str) -> None:
    failure = store_failed(error, Address("redis://db:6379/0"))
    assert told in failure.message and ".." not in failure.message and "user_script" not in failure.message
    assert failure.evidence == str(error)
