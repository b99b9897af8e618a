"""pydantic-ai over three dialects: a tool, and a model as the output."""

import json
import os

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

BASE, TOKEN = os.environ["BASE"], os.environ["TOKEN"]


class Weather(BaseModel):
    """What an answer is to hold."""

    city: str
    degrees: int


openai = OpenAIProvider(base_url=f"{BASE}/v1", api_key=TOKEN)
models = {
    "chat": OpenAIChatModel("apollo", provider=openai),
    "responses": OpenAIResponsesModel("apollo", provider=openai),
    "anthropic": AnthropicModel("apollo", provider=AnthropicProvider(base_url=BASE, api_key=TOKEN)),
}
said: dict[str, object] = {}
asked: list[str] = []
for name, model in models.items():
    agent = Agent(model)

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """Say how the weather is."""
        asked.append(city)
        return "21 degrees"

    said[name] = agent.run_sync('[[call get_weather {"city": "Zürich"}]] how is it?').output
    held = Agent(model, output_type=Weather)
    output = held.run_sync('[[call final_result {"city": "Zürich", "degrees": 21}]] how is it?').output
    said[f"{name} output"] = output.model_dump()
print(json.dumps({**said, "asked": asked}))
