"""Texts as vectors, through a gateway and a worker to a server that makes them, in both dialects."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import ollama
import openai
import pytest

from tests.gateway.serving import Backend

CONFIG = """
[providers.openai]
base_url = "{url}/v1"
model = "small"

[providers.ollama]
host = "{url}"
model = "small"

[specialists.apollo]
provider = "openai"

[specialists.athena]
provider = "ollama"
"""


class _Server(BaseHTTPRequestHandler):
    """Makes of a text a vector of its length and a half; a model named `large` a thousand more."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = asked.get("input") or []
        more = 1000.0 if asked.get("model") == "large" else 0.0
        vectors = [[len(text) + more, 0.5] for text in texts]
        match self.path:
            case "/v1/embeddings":
                rows = [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(vectors)]
                usage = {"prompt_tokens": 7, "total_tokens": 7}
                self._say(200, {"object": "list", "data": rows[::-1], "model": "small", "usage": usage})
            case "/api/embed":
                self._say(200, {"model": "small", "embeddings": vectors, "prompt_eval_count": 7})
            case _:
                self._say(404, {"error": "not here"})

    def do_GET(self) -> None:
        self._say(200, {"object": "list", "data": [], "models": []})

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _say(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def embedding(new_backend: Callable[..., Backend]) -> Iterator[Backend]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    config = CONFIG.format(url=f"http://127.0.0.1:{server.server_port}")
    try:
        yield new_backend(config=config, launch=("apollo", "athena", "hermes"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_vectors_come_from_the_model_behind_a_specialist_in_both_dialects_and_are_booked(
    embedding: Backend,
) -> None:
    http = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(
        api_key=embedding.token, base_url=f"{embedding.url}/v1", max_retries=0, http_client=http
    ) as client:
        made = await client.embeddings.create(
            model="apollo", input=["ab", "abcd"]
        )  # asks for base64 by itself
        assert [row.embedding for row in made.data] == [[2.0, 0.5], [4.0, 0.5]]
        assert made.usage.prompt_tokens == 7 and made.model == "apollo"
        other = await client.embeddings.create(model="athena:large", input="abc", encoding_format="float")
        assert [row.embedding for row in other.data] == [[1003.0, 0.5]]
        with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
            await client.embeddings.create(model="hermes", input="x")
        with pytest.raises(openai.BadRequestError, match="dimensions"):
            await client.embeddings.create(model="apollo", input="x", dimensions=8)
        with pytest.raises(openai.BadRequestError, match="empty"):
            await client.embeddings.create(model="apollo", input=[])
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="nobody", input="x")
    async with ollama.AsyncClient(embedding.url, headers=embedding.auth(), trust_env=False) as local:
        vectors = await local.embed(model="athena", input=["ab", "abcd"])
    assert [list(vector) for vector in vectors.embeddings] == [[2.0, 0.5], [4.0, 0.5]]
    async with embedding.http() as http_client:
        rows = (await http_client.get("/api/v1/usage")).json()
    used = sorted((row["ai_id"], row["model"], row["tokens_in"]) for row in rows["specialists"])
    assert used == [("apollo-ai", "small", 7), ("athena-ai", "large", 7), ("athena-ai", "small", 7)]


async def test_vectors_need_the_scope_of_a_question(backend: Backend) -> None:
    async with httpx.AsyncClient(base_url=backend.url, headers=backend.auth("read"), trust_env=False) as http:
        refused = await http.post("/v1/embeddings", json={"model": "apollo", "input": "x"})
    assert refused.status_code == 403
