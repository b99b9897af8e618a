"""Settings: what is read from where, and how a mistake is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend import config
from backend.config import DEFAULT, ConfigError, Origin, lines_of, origins, rows_of, shown
from backend.home import Home
from backend.providers.ollama import PROVIDER as OLLAMA

WRONG = [
    "http://",
    "ftp://host/v1",
    "http://host:99999/v1",
    "http://ho st/v1",
    " http://host",
    "http://host/v 1",
    "http:/host",
]
ADDRESSES = [
    ("openai", "base_url", [*WRONG, "host:8000/v1", ""]),
    ("anthropic", "base_url", [*WRONG, "host"]),
    ("ollama", "host", [*WRONG, ""]),
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


def refused(home: Home, toml: str, **environment: str) -> str:
    """Return the message with which a configuration is refused."""
    home.config.write_text(toml, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(home, environment)
    assert caught.value.code == "config_invalid"
    return caught.value.message


def test_an_empty_home_has_the_defaults(home: Home) -> None:
    settings = config.load(home, {})
    assert settings.providers.default == "auto"
    assert OLLAMA.own(settings).model == "llama3.3:70b"
    assert settings.fleet.starter == ["numa", "rhetor", "apollo", "athena"]
    assert settings.fleet.lifecycle_on


@pytest.mark.parametrize(
    ("toml", "key", "expected"),
    [
        ("[providers.ollama]\nhost = 3", "providers.ollama.host", "expected text; found 3"),
        ('[providers]\ndefault = "olama"', "providers.default", "expected one of auto, ollama, anthropic"),
        ("[providers.ollama.timeouts]\nconnect = 0", "providers.ollama.timeouts.connect", "a number > 0"),
        ("[gateway]\nport = 99999", "gateway.port", "expected a whole number <= 65535; found 99999"),
        ("[gateway]\nport = true", "gateway.port", "expected a whole number; found True"),
        ("[memory]\nretention_days = -1", "memory.retention_days", "expected a whole number >= 0; found -1"),
        ('[memory]\nretention_days = "1"', "memory.retention_days", "expected a whole number; found '1'"),
        ("[fleet]\nstarter = [1]", "fleet.starter[0]", "expected text; found 1"),
        ('[fleet]\nstarter = "numa"', "fleet.starter", "expected a list; found 'numa'"),
        ('[fleet]\nlifecycle_on = "no"', "fleet.lifecycle_on", "expected true or false; found 'no'"),
        ("fleet = 3", "fleet", "expected a table; found 3"),
        ("specialists = 3", "specialists", "expected a table; found 3"),
        ("[specialists]\napollo = 3", "specialists.apollo", "expected a table; found 3"),
        ("[specialists.apollo]\ntemperature = 5", "specialists.apollo.temperature", "a number <= 2; found 5"),
        ("[specialists.apollo]\ntemprature = 1", "specialists.apollo.temprature", "mean 'temperature'"),
        (
            '[specialists.apollo.budget]\ntokens_per_day = "many"',
            "specialists.apollo.budget.tokens_per_day",
            "expected a whole number; found 'many'",
        ),
        ('[groups]\nmine = ["a", 3]', "groups.mine[1]", "expected text; found 3"),
        ("[groups]\nmine = 3", "groups.mine", "expected a list; found 3"),
        ("[prices.big]\ninput = -1\noutput = 1", "prices.big.input", "expected a number >= 0; found -1"),
        ("[prices.big]\ninput = 1", "prices.big", "expected a key 'output'"),
        ("frobnicate = 1", "frobnicate", "no such key; known: providers, gateway"),
        *(
            (
                f"[providers.{kind}]\n{key} = {value!r}",
                f"providers.{kind}.{key}",
                "expected an address such as http",
            )
            for kind, key, values in ADDRESSES
            for value in values
        ),
        (
            '[specialists.apollo]\nbase_url = "there"',
            "specialists.apollo.base_url",
            "expected an address such as http",
        ),
        ("[fleet]\nstartr = []", "fleet.startr", "did you mean 'starter'?"),
        ("[port_overrides]\napollo = 1", "port_overrides", "set by <COMPONENT>_PORT"),
        ("[specialists.Apollo]", "specialists.Apollo", "expected a name of small letters"),
    ],
)
def test_a_mistake_is_reported_with_file_key_expectation_and_value(
    toml: str, key: str, expected: str, home: Home
) -> None:
    message = refused(home, toml)
    assert message.startswith(f"{home.config}: ")
    assert f"key '{key}'" in message
    assert expected in message


@pytest.mark.parametrize(
    "toml",
    [
        '[providers.openai]\napi_key = "plumtree"',
        '[providers.openai]\nbase_ulr = "https://me:plumtree@example.com/v1"',
        '[gateway]\ntoken = "plumtree"',
        '[providers.openai]\nmodell = "sk-plumtree-0123456789"',
    ],
)
def test_a_secret_that_stands_where_none_belongs_is_not_shown(toml: str, home: Home) -> None:
    message = refused(home, toml)
    assert "no such key" in message and "plumtree" not in message


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8000/v1",
        "https://api.example.com",
        "http://[::1]:8080/v1",
        "http://me:p%40ss@host_1:1/",
        "http://a-b.c:65535/x?y=z",
    ],
)
def test_an_address_that_is_one_is_taken(address: str, home: Home) -> None:
    home.config.write_text(
        f'[providers.openai]\nbase_url = "{address}"\n[providers.ollama]\nhost = "{address}"\n[specialists.apollo]\nbase_url = "{address}"'
    )
    assert config.load(home, {}).specialists["apollo"].base_url == address


@pytest.mark.parametrize("host", ["localhost", "host:8000", "0.0.0.0", "[::1]:8000", "10.0.0.1:1/path"])
def test_the_host_of_ollama_may_be_bare(host: str, home: Home) -> None:
    assert OLLAMA.own(config.load(home, {"OLLAMA_HOST": host})).host == host


def test_a_wrong_address_of_the_environment_names_its_variable(home: Home) -> None:
    message = refused(home, "", OPENAI_BASE_URL="localhost:8000")
    assert message.startswith(
        "environment: OPENAI_BASE_URL: key 'providers.openai.base_url': expected an address"
    )


def test_a_file_that_is_no_toml_is_named_with_the_line(home: Home) -> None:
    message = refused(home, "[fleet]\nstarter = [")
    assert message.startswith(f"{home.config}: not valid TOML")
    assert "line 2" in message or "end of document" in message


def test_a_file_that_is_no_text_is_named(home: Home) -> None:
    home.config.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        config.load(home, {})


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("TEKTON_PORT_BASE", "eighty", "expected a port number"),
        ("APOLLO_PORT", "x", "expected a port number"),
        ("APOLLO_PORT", "99999", "expected a whole number <= 65535"),
        ("TEKTON_PORT_PROFILE", "weird", "expected one of default, original, chorus, free; found 'weird'"),
        ("TEKTON_PROVIDER", "olama", "expected one of auto, ollama"),
        ("TEKTON_REGISTER_AI", "perhaps", "expected true or false"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    variable: str, value: str, expected: str, home: Home
) -> None:
    message = refused(home, "", **{variable: value})
    assert message.startswith(f"environment: {variable}")
    assert expected in message


def test_a_wrong_table_in_the_file_is_reported_even_when_the_environment_sets_a_key_of_it(home: Home) -> None:
    message = refused(home, "fleet = 3", TEKTON_REGISTER_AI="false")
    assert "key 'fleet': expected a table; found 3" in message


def test_the_environment_is_stronger_than_the_env_file_and_that_than_the_file(home: Home) -> None:
    home.config.write_text('[ports]\nbase = 8100\nai_base = 45100\nprofile = "original"', encoding="utf-8")
    home.env_file.write_text("# mine\nexport TEKTON_PORT_BASE=8200\nTEKTON_AI_PORT_BASE='45200'\n")
    ports = config.load(home, {"TEKTON_AI_PORT_BASE": "45300"}).ports
    assert (ports.profile, ports.base, ports.ai_base) == ("original", 8200, 45300)


def test_a_line_of_the_env_file_without_a_value_is_named_by_its_number(home: Home) -> None:
    home.env_file.write_text("A=1\nnonsense\n")
    with pytest.raises(ConfigError, match=r"\.env\.tekton:2: expected KEY=value"):
        config.load(home, {})


@pytest.mark.parametrize(("word", "on"), [("true", True), ("False", False), ("0", False), (" yes ", True)])
def test_the_lifecycle_switch_takes_common_words(word: str, on: bool, home: Home) -> None:
    assert config.load(home, {"TEKTON_REGISTER_AI": word}).fleet.lifecycle_on is on


def test_ports_of_other_programs_in_the_environment_are_left_alone(home: Home) -> None:
    settings = config.load(home, {"MYSQL_PORT": "tcp://10.0.0.1:3306", "NUMA_PORT": "8100"})
    assert settings.port_overrides == {"numa": 8100}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a = 1\n\n[b]\nc = 2 # [d]\n", {"a": 1, "b.c": 4}),
        ('[t]\np = """\n[u]\nq = 1\n"""\nq = 2\n', {"t.p": 2, "t.q": 6}),
        ("[ 'x-y' . z ]\nk.l = 1\n", {}),
        ("[x]\nk.l = 1\nm = { n = 1 }\n", {"x.k.l": 2}),
        ("list = [\n  'a = 1',\n]\nb = 1\n", {"list": 1, "b": 4}),
        ("", {}),
    ],
)
def test_each_key_is_found_in_its_line_and_text_that_looks_like_one_is_not(
    text: str, lines: dict[str, int]
) -> None:
    found = lines_of(text)
    assert {key: found.get(key) for key in lines} == lines
    assert not {"u.q", "d"} & found.keys()


def test_a_setting_says_its_line_its_variable_or_that_it_is_a_default(home: Home) -> None:
    home.config.write_text("[gateway]\nport = 8123\n\n[specialists.reviewer]\ntitle = 'R'\n")
    environment = {"TEKTON_REGISTER_AI": "false"}
    rows = rows_of(shown(config.load(home, environment)), origins(home, environment))
    by_key = {row.key: row for row in rows}
    assert by_key["gateway.port"] == Origin("gateway.port", 8123, "config.toml:2")
    assert by_key["fleet.lifecycle_on"].origin == "environment: TEKTON_REGISTER_AI"
    assert by_key["specialists.reviewer.title"].origin == "config.toml:5"
    assert by_key["providers.default"].origin == DEFAULT
    assert [row.origin == DEFAULT for row in rows] == sorted(row.origin == DEFAULT for row in rows)
