"""The worker as a bridge to an external agent, over the Agent Client Protocol.

`process` is the agent's program, `conversations` what is open there, `tool_calls` what it does, `turn` one question to it,
`specialist` all of it together. Imported only by workers that have an agent.
"""
