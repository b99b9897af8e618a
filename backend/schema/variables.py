"""The environment variables that are ours, each with what it sets; one that is nearly called so is refused.

Knows names and no values. The variables of providers stand in their modules.
"""

from __future__ import annotations

from collections.abc import Iterable

from backend.suggest import nearest

PREFIX = "TEKTON_"
LIKENESS = 0.75
"""How alike a name must be to count as misspelt, without the prefix: `TOKEN`, which people call their own, is not `TOKEN_FILE`."""

PORT_VARIABLES = {
    "TEKTON_PORT_BASE": "ports.base",
    "TEKTON_AI_PORT_BASE": "ports.ai_base",
    "TEKTON_GATEWAY_PORT": "gateway.port",
}
TEXT_VARIABLES = {
    "TEKTON_PORT_PROFILE": "ports.profile",
    "TEKTON_PROVIDER": "providers.default",
    "TEKTON_STORE": "memory.store",
    "TEKTON_CLUSTER": "cluster.address",
    "TEKTON_TLS_CERT": "tls.cert",
    "TEKTON_TLS_KEY": "tls.key",
    "TEKTON_TLS_CA": "tls.ca",
}
FLAG_VARIABLES = {
    "TEKTON_REGISTER_AI": "fleet.lifecycle_on",
    "TEKTON_GATEWAY_WITHOUT_TLS": "gateway.without_tls",
}
OTHER_VARIABLES = {
    "TEKTON_HOME": "the folder of everything; two homes share nothing",
    "TEKTON_CONNECT": "the gateway on another machine, as `--connect` does",
    "TEKTON_TOKEN_FILE": "the file with its token, as `--token-file` does",
    "TEKTON_CA_FILE": "who signed its certificate, as `--ca-file` does",
    "TEKTON_LOCAL_API_KEY": "the key for servers that are found at the usual ports of this machine",
    "TEKTON_REDIS_PASSWORD": "the password of the store that `memory.store` names",
    "TEKTON_LOG_FORMAT": "`json` for logs as JSON lines",
    "TEKTON_OTEL": "`1` sends spans to where the `OTEL_EXPORTER_OTLP_*` variables say",
    "TEKTON_SPECIALIST": "set for the processes of an external agent: its id",
    "TEKTON_SCRIPTED_COUNT": "a file in which the scripted provider counts its calls, for tests",
}
"""Those that set no key of `config.toml`."""
# what a provider reads stands in its `ProviderInfo.variables`, as packages of others bring providers
VARIABLES = (*PORT_VARIABLES, *TEXT_VARIABLES, *FLAG_VARIABLES, *OTHER_VARIABLES)


def misspelt(names: Iterable[str]) -> str:
    """Return why a name cannot be meant as it is written, in a sentence that says which was meant; empty for none.

    What a misspelt variable was to set would silently not be set. Other names that begin with `TEKTON_` are left alone:
    they may be somebody's own, such as the variable of a key.
    """
    ours = {name.removeprefix(PREFIX): name for name in VARIABLES}
    for name in sorted(names):
        if not name.startswith(PREFIX) or name in VARIABLES:
            continue
        if near := nearest(name.removeprefix(PREFIX), ours, likeness=LIKENESS):
            return f"environment: there is no variable {name}; did you mean {ours[near[0]]}?"
    return ""
