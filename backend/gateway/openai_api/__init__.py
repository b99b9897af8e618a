"""The OpenAI-compatible surface: `/v1/models`, `/v1/chat/completions`. A shell over turns, teams and pipelines."""

from backend.gateway.openai_api.routes import openai_routes

__all__ = ["openai_routes"]
