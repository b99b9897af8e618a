"""The dialect of programs written for Anthropic: `/v1/messages`. A reader of bodies and a writer over the shared core."""
