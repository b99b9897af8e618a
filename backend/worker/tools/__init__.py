"""Tools that a specialist's model may call: MCP servers as children of the worker, and the platform's own.

`guard` ends a server with its worker, `stdio` has its pipes, `servers` talks to servers, `toolbox` is all of
them under the names a model sees.
"""
