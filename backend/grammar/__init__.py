"""The pipeline language: one parser for console, shell, HTTP and MCP. Pure: no I/O, no catalogue.

echo "text" | apollo "be brief" | {athena,numa[temperature=0.2]} | team > out.txt
"""

from backend.grammar.lexer import GrammarError, Span, spans
from backend.grammar.parser import parse, parse_script
from backend.grammar.tree import OPTION_TYPES, Ask, Cat, Echo, Pipeline, Script, Stage, Target, show

__all__ = [
    "OPTION_TYPES",
    "Ask",
    "Cat",
    "Echo",
    "GrammarError",
    "Pipeline",
    "Script",
    "Span",
    "Stage",
    "Target",
    "parse",
    "parse_script",
    "show",
    "spans",
]
