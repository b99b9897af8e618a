"""The dialect of programs written for Ollama: `/api/chat`, `/api/generate` and what lists models, over the shared core."""
