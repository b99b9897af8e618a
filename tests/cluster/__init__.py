"""What needs a Redis server or a Ray cluster: `make test-cluster`."""

from importlib.util import find_spec

import pytest

from tests.redis_server import NEEDS_REDIS

_SLOW = [pytest.mark.cluster, pytest.mark.timeout(240)]
ON_REDIS = [*_SLOW, NEEDS_REDIS]
ON_RAY = [
    *_SLOW,
    pytest.mark.skipif(
        find_spec("ray") is None, reason="Ray is not installed (pip install 'tekton-tui[cluster]')"
    ),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
