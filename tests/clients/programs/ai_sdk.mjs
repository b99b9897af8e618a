// The AI SDK over three dialects: a tool with its result, a stream, and an object.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const baseURL = `${process.env.BASE}/v1`;
const apiKey = process.env.TOKEN;
const models = {
  chat: createOpenAICompatible({ name: "tekton", baseURL, apiKey, supportsStructuredOutputs: true })("apollo"),
  responses: createOpenAI({ baseURL, apiKey })("apollo"),
  anthropic: createAnthropic({ baseURL, apiKey })("apollo"),
};
const said = {};
const asked = [];
const tools = {
  get_weather: tool({
    description: "the weather",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      asked.push(city);
      return "21 degrees";
    },
  }),
};
const prompt = '[[call get_weather {"city": "Zürich"}]] how is it?';
for (const [name, model] of Object.entries(models)) {
  said[name] = (await generateText({ model, tools, prompt, stopWhen: stepCountIs(3), maxRetries: 0 })).text;
  const streamed = streamText({ model, tools, prompt, stopWhen: stepCountIs(3), maxRetries: 0 });
  let text = "";
  for await (const piece of streamed.textStream) text += piece;
  said[`${name} streamed`] = text;
  const held = await generateText({
    model,
    maxRetries: 0,
    output: Output.object({ schema: z.object({ city: z.string(), degrees: z.number() }) }),
    prompt: '[[say {"city": "Bern", "degrees": 7}]]',
  });
  said[`${name} object`] = held.output;
}
console.log(JSON.stringify({ ...said, asked }));
