// The AI SDK at its defaults, whatever fails: what it made of each fault, whole and streamed, in each dialect.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const baseURL = `${process.env.BASE}/v1`;
const apiKey = process.env.TOKEN;
const models = {
  chat: createOpenAICompatible({ name: "tekton", baseURL, apiKey })("apollo"),
  responses: createOpenAI({ baseURL, apiKey })("apollo"),
  anthropic: createAnthropic({ baseURL, apiKey })("apollo"),
};
const said = {};
for (const fault of process.env.FAULTS.split(" ")) {
  for (const [name, model] of Object.entries(models)) {
    try {
      await generateText({ model, prompt: `[[fail ${fault}]] ${name} whole` });
      said[`${name} ${fault}`] = "no error";
    } catch (error) {
      said[`${name} ${fault}`] = String(error.message ?? error);
    }
    const errors = [];
    const streamed = streamText({
      model,
      prompt: `[[repeat 3]] [[cut ${fault}]] ${name} streamed`,
      onError: ({ error }) => errors.push(String(error.message ?? JSON.stringify(error))),
    });
    for await (const piece of streamed.textStream) void piece;
    said[`${name} ${fault} streamed`] = errors.join("; ");
  }
}
console.log(JSON.stringify(said));
