"""What the providers that ask a server over the network have in common: a key, one client, the shape of failures."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Generic, TypeVar

from backend.config import KeyedSettings
from backend.home import Home
from backend.providers.base import ProviderError, ProviderUnavailable
from backend.providers.http import Upstream, as_provider_error, from_status, refusal_text, split_user
from backend.providers.keys import key_of
from backend.providers.streams import StreamReader

S = TypeVar("S", bound=KeyedSettings)


class RemoteProvider(Generic[S]):
    """The part of a `Provider` that all vendors share. `who` names the server, `setting` the key that holds its address."""

    kind: str
    who: str
    setting: str
    parameters: Mapping[str, str] = {}
    """What to set for a server that refuses a parameter."""

    def __init__(self, own: S, address: str, home: Home, environment: Mapping[str, str]) -> None:
        self._own, self._address, self._home, self._environment = own, address, home, environment
        self._key = ""
        self._where, self._user = split_user(address)
        self._client: Any = None

    async def prepare(self) -> None:
        self._key = key_of(self.kind, self._own, self._home, self._environment)
        self._client = await asyncio.to_thread(self._open)

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        """Return nothing: most servers have no tokenizer to ask."""
        return None

    async def aclose(self) -> None:
        if self._client is not None:
            # Set aside first, so that a second close, or a call meanwhile, does not meet a client that is half closed.
            client, self._client = self._client, None
            await (client.close() if hasattr(client, "close") else client.aclose())

    @abstractmethod
    def _open(self) -> Any:
        """Import the library and make the client; seconds, so it runs in a thread."""

    def _ready(self) -> Any:
        if self._client is None:
            raise ProviderUnavailable("the provider was not prepared")
        return self._client

    async def _body_of(
        self, client: Any, request: Any, model: str, reader: StreamReader | None = None
    ) -> AsyncGenerator[bytes]:
        """Send a request and yield the body as it arrives; closing the iterator closes the connection.

        Raises:
            ProviderError: The server refused.
        """
        response = await client.send(request, stream=True)
        try:
            if not response.is_success:
                raise self._refused(model, response, await refusal_text(response))
            if reader is not None:
                reader.answered(response.status_code, response.headers.get("content-type", ""))
            async for data in response.aiter_bytes():
                yield data
        finally:
            await response.aclose()

    def _secrets(self) -> tuple[str, ...]:
        """Return what must not be shown of the server's words."""
        return (self._key,)

    def _upstream(self, model: str) -> Upstream:
        key_hint, parameters = self._own.api_key_env, dict(self.parameters)
        return Upstream(self.who, self._where, model, key_hint, self.setting, self._secrets(), parameters)

    def _refused(self, model: str, response: Any, body: str) -> ProviderError:
        return from_status(self._upstream(model), response.status_code, body, response.headers)

    def _failure(self, error: Exception, model: str, *, begun: bool = False) -> ProviderError:
        return as_provider_error(self._upstream(model), error, begun=begun)
