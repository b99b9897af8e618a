"""MCP: every action as a tool, over streamable HTTP, over stdio and in the older REST dialect.

The SDK is imported when the first MCP client comes: it is large, and most backends never meet one.
"""
