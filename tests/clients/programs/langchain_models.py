"""LangChain over three dialects: a tool with its result, and structured output."""

import json
import os

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

BASE, TOKEN = os.environ["BASE"], os.environ["TOKEN"]
ASK = '[[call get_weather {"city": "Zürich"}]] how is it?'


class Weather(BaseModel):
    """What an answer is to hold."""

    city: str
    degrees: int


@tool
def get_weather(city: str) -> str:
    """Say how the weather is."""
    return f"21 degrees in {city}"


openai = {"model": "apollo", "base_url": f"{BASE}/v1", "api_key": TOKEN, "max_retries": 0}
models = {
    "chat": ChatOpenAI(**openai),
    "responses": ChatOpenAI(**openai, use_responses_api=True),
    "anthropic": ChatAnthropic(model="apollo", base_url=BASE, api_key=TOKEN, max_retries=0),
}
said: dict[str, object] = {}
for name, model in models.items():
    bound = model.bind_tools([get_weather])
    asked = bound.invoke(ASK)
    [call] = asked.tool_calls
    result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    answer = bound.invoke([HumanMessage(ASK), asked, result])
    said[name] = answer.text if isinstance(answer.text, str) else answer.text()
    said[f"{name} streamed"] = "".join(str(piece.text) for piece in model.stream("[[say one two three]]"))
for name, method, words in (
    ("chat", "json_schema", '[[say {"city": "Bern", "degrees": 7}]]'),
    ("chat", "function_calling", '[[call Weather {"city": "Bern", "degrees": 7}]]'),
    ("responses", "json_schema", '[[say {"city": "Bern", "degrees": 7}]]'),
    ("anthropic", "function_calling", '[[call Weather {"city": "Bern", "degrees": 7}]]'),
):
    held = models[name].with_structured_output(Weather, method=method)
    said[f"{name} {method}"] = held.invoke(words).model_dump()
print(json.dumps(said))
