"""litellm as a client: a tool, a stream, the Responses API, and Messages."""

import json
import os

import litellm

BASE, TOKEN = os.environ["BASE"], os.environ["TOKEN"]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
openai = {"model": "openai/apollo", "api_base": f"{BASE}/v1", "api_key": TOKEN, "num_retries": 0}
anthropic = {
    "model": "anthropic/apollo",
    "api_base": BASE,
    "api_key": TOKEN,
    "num_retries": 0,
    "max_tokens": 100,
}
said: dict[str, object] = {}
for name, options in (("openai", openai), ("anthropic", anthropic)):
    messages = [{"role": "user", "content": '[[call get_weather {"city": "Zürich"}]] how is it?'}]
    message = litellm.completion(messages=messages, tools=[TOOL], **options).choices[0].message
    [call] = message.tool_calls
    messages += [message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
    answer = litellm.completion(messages=messages, tools=[TOOL], **options)
    said[name] = [json.loads(call.function.arguments), answer.choices[0].message.content]
    pieces = litellm.completion(
        messages=[{"role": "user", "content": "[[say one two]]"}], stream=True, **options
    )
    said[f"{name} streamed"] = "".join(piece.choices[0].delta.content or "" for piece in pieces)
response = litellm.responses(input="[[say hello]]", **openai)
said["responses"] = response.output[-1].content[0].text
print(json.dumps(said))
