"""`tekton completion bash|zsh|fish`: commands and names of specialists, from the program itself."""

from __future__ import annotations

import argparse

from backend.cli.exit_codes import OK

_BASH = """\
_tekton() {{
    local word=${{COMP_WORDS[COMP_CWORD]}}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
    else
        COMPREPLY=($(compgen -W "{names}" -- "$word"))
    fi
}}
_aish() {{ COMPREPLY=($(compgen -W "team-chat list history {names}" -- "${{COMP_WORDS[COMP_CWORD]}}")); }}
complete -F _tekton tekton
complete -F _aish aish
"""
_ZSH = """\
#compdef tekton aish
_tekton() {{
    if (( CURRENT == 2 )); then compadd -- {commands}; else compadd -- {names}; fi
}}
_aish() {{ compadd -- team-chat list history {names}; }}
compdef _tekton tekton
compdef _aish aish
"""
_FISH = """\
complete -c tekton -f -n __fish_use_subcommand -a '{commands}'
complete -c tekton -f -n 'not __fish_use_subcommand' -a '{names}'
complete -c aish -f -a 'team-chat list history {names}'
"""


async def completion(options: argparse.Namespace) -> int:
    """Print the script for a shell; for bash: `source <(tekton completion bash)`."""
    from backend.catalog import load
    from backend.cli.tekton import COMMANDS
    from backend.config import load as load_settings
    from backend.home import Home

    catalog = load(load_settings(Home.from_environment()))
    names = " ".join([*(component.name for component in catalog), *catalog.groups, "all", "starter"])
    script = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[options.shell]
    print(script.format(commands=" ".join(COMMANDS), names=names), end="")
    return OK
