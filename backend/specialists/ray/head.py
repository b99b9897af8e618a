"""Calls to the head of a Ray cluster, each with a time-out, which Ray's own calls lack.

The gateway imports Ray only here, in `join`. Knows actors by name, no specialists.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from importlib import import_module
from typing import Any

from backend.schema.errors import TektonError
from backend.schema.records import Node
from backend.specialists.nodes import node_of

log = logging.getLogger(__name__)

JOIN_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 10.0
"""Without it Ray's calls would wait for ever when the head is gone."""
CAUSE_CHARS = 300
RECONNECT_TIMEOUT_S = 30 * 86_400
"""Ray ends the gateway's own process when the head was away for longer; its default is one minute."""


class ClusterRefused(TektonError):
    """The cluster cannot be used; the message says what to do."""

    code = "config_invalid"


class HeadSilent(TektonError):
    """The cluster's head does not answer: nothing can be placed or looked up; specialists that run go on."""

    code = "timeout"


class Head:
    """One cluster, as one home sees it. Methods block, at most for their time-out; call them from threads."""

    def __init__(self, address: str, token: str) -> None:
        self.address = address
        self.namespace = f"tekton-{hashlib.sha256(token.encode()).hexdigest()[:12]}"
        """Ray's namespace for this home: two homes on one cluster do not see each other's specialists."""
        self.ray: Any = None

    def join(self, environment: Mapping[str, str]) -> None:
        """Join the cluster.

        Raises:
            ClusterRefused: It has no authentication, cannot be reached, or Ray is not installed.
        """
        if environment.get("RAY_AUTH_MODE") != "token":
            raise ClusterRefused(
                "a cluster without authentication lets anybody run code on its nodes: start Ray and the gateway with "
                "RAY_AUTH_MODE=token (docs/cluster.md)"
            )
        # Before the import below: Ray reads its settings once, from the environment of the process.
        for name, value in environment.items():
            if name.startswith("RAY_"):
                os.environ.setdefault(name, value)
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(RECONNECT_TIMEOUT_S))
        # Ray reports its use to its makers unless this is set.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self.ray = import_module("ray")
        except ModuleNotFoundError as error:
            raise ClusterRefused("Ray is not installed: pip install 'tekton-tui[cluster]'") from error
        options = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
        try:
            self.ask(
                self.ray.init,
                address=self.address,
                namespace=self.namespace,
                timeout_s=JOIN_TIMEOUT_S,
                **options,
            )
        except Exception as error:  # Ray raises errors of many kinds here
            raise ClusterRefused(
                f"the cluster at {self.address} cannot be joined: {first_line(error)}. This host must run a node of "
                f"it: ray start --address={self.address}"
            ) from error

    def leave(self) -> None:
        """Leave the cluster; its actors run on."""
        if self.ray is not None:
            with suppress(HeadSilent):
                self.ask(self.ray.shutdown)

    def nodes(self) -> list[Node]:
        """Return all nodes. Raises `HeadSilent`, as all methods below."""
        return [node_of(row) for row in self.ask(self.ray.nodes)]

    def find(self, name: str) -> Any:
        """Return an actor of this home by name, `None` if there is none."""
        try:
            return self.ask(self.ray.get_actor, name, namespace=self.namespace)
        except ValueError:
            return None

    def running_ids(self) -> list[str]:
        """Return the names of this home's actors."""
        rows = self.ask(self.ray.util.list_named_actors, all_namespaces=True)
        return [row["name"] for row in rows if row["namespace"] == self.namespace]

    def end(self, actor: Any) -> None:
        """End an actor at once. A head that does not answer is logged, not raised."""
        try:
            self.ask(self.ray.kill, actor)
        except HeadSilent as error:
            log.warning("an actor could not be ended: %s", error.message)

    def ask(
        self, work: Callable[..., Any], *arguments: Any, timeout_s: float = CALL_TIMEOUT_S, **options: Any
    ) -> Any:
        """Run one of Ray's blocking calls.

        Raises:
            HeadSilent: It did not return in time. Its thread goes on waiting, as a blocking call cannot be ended.
        """
        answer: Future[Any] = Future()

        def run() -> None:
            try:
                answer.set_result(work(*arguments, **options))
            except BaseException as error:
                answer.set_exception(error)

        # A daemon: a call that never returns must not keep the process from ending.
        threading.Thread(target=run, name="ray call", daemon=True).start()
        try:
            return answer.result(timeout_s)
        except TimeoutError as error:
            raise HeadSilent(
                f"the head of the cluster at {self.address} did not answer within {timeout_s:g} s; specialists that "
                "run are not affected"
            ) from error


def future_of(reference: Any) -> asyncio.Future[Any]:
    """Return a future of the running event loop for an object reference of Ray."""
    return asyncio.wrap_future(reference.future())


def cause_of(error: BaseException) -> str:
    """Return the sentence of a Ray error that says why an actor died, or the error that the actor itself raised."""
    if isinstance(ours := getattr(error, "cause", None), TektonError):
        return ours.message
    for line in str(error).splitlines():
        if " because " in line or "Worker exit detail" in line:
            return line.strip()[:CAUSE_CHARS]
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:CAUSE_CHARS]
