"""OpenAI's Agents SDK at its defaults (Responses) and over chat completions: a tool, then a handoff."""

import asyncio
import json
import os

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

ASK = '[[call get_weather {"city": "Zürich"}]] how is it?'
asked: list[str] = []


@function_tool
def get_weather(city: str) -> str:
    """Say how the weather is."""
    asked.append(city)
    return "21 degrees"


async def main() -> None:
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"{os.environ['BASE']}/v1", api_key=os.environ["TOKEN"], max_retries=0)
    said: dict[str, object] = {}
    for name, kind in (("responses", OpenAIResponsesModel), ("chat", OpenAIChatCompletionsModel)):
        model = kind("apollo", client)
        agent = Agent("weather", instructions="Use tools.", model=model, tools=[get_weather])
        said[name] = (await Runner.run(agent, ASK)).final_output
        streamed = Runner.run_streamed(agent, ASK)
        async for _ in streamed.stream_events():
            pass
        said[f"{name} streamed"] = streamed.final_output
        helper = Agent("helper", instructions="Help.", model=kind("athena", client))
        first = Agent("first", model=model, handoffs=[helper])
        passed = await Runner.run(first, "[[call transfer_to_helper {}]] please")
        said[f"{name} handoff"] = [passed.last_agent.name, passed.final_output]
    print(json.dumps({**said, "asked": asked}))


asyncio.run(main())
