"""The catalogue: the shipped table, its profiles and overrides, and the operator's own specialists."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from backend import catalog, config
from backend.catalog import Catalog, Component, UnknownSpecialist
from backend.config import ConfigError
from backend.home import Home

HTTP_PORTS = {
    "ergon": 8000,
    "hermes": 8001,
    "engram": 8002,
    "rhetor": 8003,
    "numa": 8004,
    "athena": 8005,
    "prometheus": 8006,
    "harmonia": 8007,
    "telos": 8008,
    "synthesis": 8009,
    "tekton_core": 8010,
    "metis": 8011,
    "apollo": 8012,
    "penia": 8013,
    "sophia": 8014,
    "noesis": 8015,
    "terma": 8016,
    "dionysus": 8017,
    "hephaestus": 8080,
}

CONFIG = """
[specialists.gardener]
title = "The Gardener"
persona = "You are Gardener. You know plants."
capabilities = ["plants", "soil"]
groups = ["outdoor", "greek-chorus"]
aliases = ["greenthumb"]

[specialists.apollo]
temperature = 0.9
model = "tiny"
port = 46000

[groups]
outdoor = ["athena"]
"""


def load(tmp_path: Path, toml: str = "", **environment: str) -> Catalog:
    """Build the catalogue as the product does, from a configuration file and an environment."""
    home = Home(tmp_path / "home").prepare()
    home.config.write_text(toml, encoding="utf-8")
    return catalog.load(config.load(home, environment))


@pytest.fixture
def shipped(tmp_path: Path) -> Catalog:
    return load(tmp_path)


def test_every_component_has_its_http_port_and_its_ai_port(shipped: Catalog) -> None:
    assert {row.name: row.port for row in shipped} == HTTP_PORTS
    assert {row.name: row.ai_port for row in shipped} == {n: 45000 + p - 8000 for n, p in HTTP_PORTS.items()}


def test_rows_keep_the_table_order_and_a_slot_each(shipped: Catalog) -> None:
    assert [row.name for row in shipped] == list(HTTP_PORTS)
    assert [row.slot for row in shipped] == list(range(19))


def test_temperatures_are_given_only_where_the_role_asks_for_one(shipped: Catalog) -> None:
    given = {row.name: row.temperature for row in shipped if row.temperature is not None}
    assert all(row.temperature_by_role for row in shipped)
    assert given == {"numa": 0.5, "athena": 0.3, "apollo": 0.4}


@pytest.mark.parametrize("name", HTTP_PORTS)
def test_a_persona_names_its_specialist_first_and_has_60_to_100_words(name: str, shipped: Catalog) -> None:
    row = shipped.get(name)
    spoken = name.replace("_", " ").title()
    assert 60 <= len(row.persona.split()) <= 100
    assert row.persona.startswith(f"You are {spoken}, the ") or row.persona.startswith(f"You are {spoken}, ")
    assert f"I am {spoken}, " in row.persona
    assert row.title.removeprefix("The ") in row.persona
    assert "\n" not in row.persona
    assert "first person" in row.persona


@pytest.mark.parametrize("name", HTTP_PORTS)
def test_a_row_says_what_people_may_ask_of_it(name: str, shipped: Catalog) -> None:
    row = shipped.get(name)
    assert 8 <= len(row.capabilities) <= 15
    assert len(set(row.capabilities)) == len(row.capabilities)
    assert row.roles
    assert row.description.endswith(".") and row.description.count(". ") == 0


def test_no_two_rows_share_a_text_a_name_or_a_port(shipped: Catalog) -> None:
    rows = list(shipped)
    for texts in ([r.persona for r in rows], [r.title for r in rows], [r.description for r in rows]):
        assert len(set(texts)) == len(rows)
    assert len({r.ai_port for r in rows} | {r.port for r in rows}) == 2 * len(rows)
    names = [name for r in rows for name in (r.name, *r.aliases)]
    assert len(set(names)) == len(names)
    assert not set(names) & set(shipped.groups)


def test_the_table_has_no_key_the_loader_does_not_know() -> None:
    text = resources.files("backend").joinpath("catalog.toml").read_text(encoding="utf-8")
    for row in tomllib.loads(text)["component"]:
        assert set(row) <= set(Component.__struct_fields__)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("apollo", "apollo"),
        ("apollo-ai", "apollo"),
        (" APOLLO ", "apollo"),
        ("budget", "penia"),
        ("budget-ai", "penia"),
        ("nous", "noesis"),
        ("tekton_core", "tekton_core"),
        ("tekton-core", "tekton_core"),
        ("tekton-core-ai", "tekton_core"),
        ("tekton_core-ai", "tekton_core"),
    ],
)
def test_ids_bare_names_and_aliases_name_the_same_row(written: str, name: str, shipped: Catalog) -> None:
    assert shipped.get(written).id == f"{name}-ai"


def test_groups_and_all_expand_each_row_once_in_the_order_asked(shipped: Catalog) -> None:
    assert [r.name for r in shipped.expand(["greek-chorus"])] == [
        "athena",
        "apollo",
        "dionysus",
        "hephaestus",
    ]
    assert [r.name for r in shipped.expand(["numa", "greek-chorus", "apollo-ai", "numa"])] == [
        "numa",
        "athena",
        "apollo",
        "dionysus",
        "hephaestus",
    ]
    assert len(shipped.expand(["apollo", "ALL"])) == 19


def test_an_unknown_name_gets_near_ones_suggested(shipped: Catalog) -> None:
    with pytest.raises(UnknownSpecialist, match=r"'apolo'.*Did you mean apollo"):
        shipped.get("apolo")
    with pytest.raises(UnknownSpecialist, match="Did you mean greek-chorus"):
        shipped.expand(["greek-chorsu"])
    with pytest.raises(UnknownSpecialist, match="Known: apollo, athena") as caught:
        shipped.get("xqzw")
    assert caught.value.code == "unknown_specialist"


def test_profile_original_moves_http_and_ai_ports_together(tmp_path: Path) -> None:
    rows = load(tmp_path, '[ports]\nprofile = "original"')
    moved = {"engram": 8000, "ergon": 8002, "terma": 8004, "numa": 8016}
    assert {r.name: r.port for r in rows} == HTTP_PORTS | moved
    assert rows.get("numa").ai_port == 45016
    assert len({r.ai_port for r in rows}) == 19


def test_profile_chorus_fixes_the_ai_ports_of_the_four(tmp_path: Path) -> None:
    rows = load(tmp_path, TEKTON_PORT_PROFILE="chorus")
    assert [r.ai_port for r in rows.expand(["greek-chorus"])] == [9001, 9002, 9003, 9004]
    assert {r.name: r.port for r in rows} == HTTP_PORTS
    assert rows.get("numa").ai_port == 45004


def test_profile_free_leaves_every_ai_port_to_the_system(tmp_path: Path) -> None:
    assert {r.ai_port for r in load(tmp_path, TEKTON_PORT_PROFILE="free")} == {0}


def test_port_bases_shift_the_whole_table(tmp_path: Path) -> None:
    rows = load(tmp_path, TEKTON_PORT_BASE="18000", TEKTON_AI_PORT_BASE="46000")
    assert {r.name: r.port - 10000 for r in rows} == HTTP_PORTS
    assert rows.get("hephaestus").ai_port == 46080


def test_a_component_port_in_the_environment_moves_its_row_only(tmp_path: Path) -> None:
    rows = load(tmp_path, APOLLO_PORT="8200", BUDGET_PORT="8300", TEKTON_CORE_PORT="8400")
    assert (rows.get("apollo").port, rows.get("apollo").ai_port) == (8200, 45200)
    assert (rows.get("penia").port, rows.get("penia").ai_port) == (8300, 45300)
    assert (rows.get("tekton_core").port, rows.get("tekton_core").ai_port) == (8400, 45400)
    assert rows.get("athena").port == 8005


def test_an_own_specialist_stands_beside_the_shipped_ones(tmp_path: Path) -> None:
    rows = load(tmp_path, CONFIG)
    own = rows.get("greenthumb")
    assert (own.id, own.title, own.own, own.slot, own.ai_port) == (
        "gardener-ai",
        "The Gardener",
        True,
        19,
        0,
    )
    assert own.capabilities == ["plants", "soil"]
    assert [r.name for r in rows.expand(["outdoor"])] == ["athena", "gardener"]
    assert rows.expand(["greek-chorus"])[-1] is own
    assert list(rows)[-1] is own


def test_the_settings_change_a_shipped_row_and_keep_the_rest_of_it(tmp_path: Path) -> None:
    plain, changed = load(tmp_path).get("apollo"), load(tmp_path, CONFIG).get("apollo")
    assert (changed.temperature, changed.model, changed.ai_port) == (0.9, "tiny", 46000)
    assert not changed.temperature_by_role
    assert (changed.persona, changed.port, changed.own) == (plain.persona, plain.port, False)


def test_an_own_specialist_without_texts_still_gets_a_persona_and_a_title(tmp_path: Path) -> None:
    row = load(tmp_path, "[specialists.night_watch]").get("night-watch")
    assert row.title == "Night Watch"
    assert "night_watch" in row.persona


def test_a_group_of_the_settings_that_names_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownSpecialist, match="'apolo'"):
        load(tmp_path, '[groups]\nmine = ["apolo"]')


@pytest.mark.parametrize(
    ("toml", "both"),
    [
        ("[specialists.budget]", ("'budget'", "'penia'", "[specialists.penia]")),
        ("[specialists.nous]", ("'nous'", "'noesis'")),
        ("[specialists.apollo_ai]", ("'apollo_ai'", "'apollo'")),
        ("[specialists.greek_chorus]", ("'greek_chorus'", "group 'greek-chorus'")),
        ("[specialists.team]", ("'team'", "command line")),
        ('[specialists.mine]\naliases = ["Athena"]', ("'Athena' of 'mine'", "'athena'")),
        ('[specialists.mine]\naliases = ["x"]\n[specialists.x]', ("'x'", "'mine'")),
        ('[groups]\napollo = ["athena"]', ("'apollo'", "groups.apollo")),
        ('[groups]\nall = ["athena"]', ("groups.all",)),
    ],
)
def test_a_name_that_would_mean_two_things_is_refused_naming_both(
    toml: str, both: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(tmp_path, toml)
    assert all(words in refusal.value.message for words in ("config.toml", *both)), refusal.value.message


@pytest.mark.parametrize(
    ("toml", "environment", "both"),
    [
        ("[specialists.mine]\nport = 45012", {}, ("'apollo'", "'mine'", "45012")),
        ("", {"APOLLO_PORT": "8005"}, ("'athena'", "'apollo'", "45005", "APOLLO_PORT")),
        ("", {"TEKTON_AI_PORT_BASE": "65500"}, ("TEKTON_AI_PORT_BASE", "65535")),
    ],
)
def test_a_port_two_would_need_or_nobody_can_have_is_refused(
    toml: str, environment: dict[str, str], both: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(tmp_path, toml, **environment)
    assert all(words in refusal.value.message for words in both), refusal.value.message


def test_an_endpoint_asks_openai_compatibly_and_must_have_an_address(tmp_path: Path) -> None:
    row = load(tmp_path, '[specialists.far]\ntransport = "api"\nbase_url = "http://127.0.0.1:1/v1"').get(
        "far"
    )
    assert (row.transport, row.provider, row.ai_port) == ("api", "openai", 0)
    with pytest.raises(ConfigError, match=r"specialists\.far\.base_url"):
        load(tmp_path, '[specialists.far]\ntransport = "api"')
    with pytest.raises(ConfigError, match=r"specialists\.far\.provider"):
        load(tmp_path, '[specialists.far]\ntransport = "api"\nbase_url = "http://x/v1"\nprovider = "ollama"')


@pytest.mark.parametrize("name", ["agent", "tekton", '"a:b"', '"a b"', '"*"'])
def test_a_tool_server_has_a_name_that_rules_can_only_mean_it_by(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"key 'tools\."):
        load(tmp_path, f'[tools.{name}]\ncommand = ["true"]')


def test_the_settings_are_not_changed_by_the_catalogue_made_of_them(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    home.config.write_text(CONFIG)
    settings = config.load(home, {})
    catalog.load(settings)
    assert settings.groups == {"outdoor": ["athena"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[specialists.apolo]\nmodel = "x"',
            "'specialists.apolo': there is no specialist 'apolo'; did you mean 'apollo'?",
        ),
        (
            '[fleet]\nstarter = ["nma"]',
            "'fleet.starter': There is no specialist or group 'nma'. Did you mean numa?",
        ),
        ('[group_rules.outdor]\ndeny = ["shell:*"]', "there is no group 'outdor'; did you mean 'outdoor'?"),
        ('[specialists.athena]\ntools = ["fles"]', "there is no tool server 'fles'; did you mean 'files'?"),
        (
            '[specialists.athena]\ntools = ["other:read"]',
            "there is no tool server 'other'; known: files, tekton",
        ),
        (
            '[specialists.athena]\ntools = ["tekton:serch"]',
            "tekton has no tool 'serch'; did you mean 'search'?",
        ),
        (
            '[rules]\ndeny = ["file:write"]',
            "'file:write': there is no tool server 'file'; did you mean 'files'?",
        ),
        ('[group_rules.outdoor]\nask = ["tekon:*"]', "did you mean 'tekton'?"),
        ('[specialists.apollo.rules]\nallow = ["fiels:read"]', "did you mean 'files'?"),
    ],
)
def test_a_misspelt_name_in_the_configuration_is_refused_with_the_one_that_was_meant(
    tmp_path: Path, text: str, said: str
) -> None:
    home = Home(tmp_path).prepare()
    home.config.write_text(f'[tools.files]\ncommand = ["x"]\n{CONFIG}\n{text}\n')
    with pytest.raises(ConfigError) as refused:
        catalog.load(config.load(home, {}))
    assert said in refused.value.message


def test_rules_over_servers_to_come_and_short_tables_of_new_specialists_are_taken(tmp_path: Path) -> None:
    home = Home(tmp_path).prepare()
    home.config.write_text(
        '[rules]\ndeny = ["shell:*", "*:write"]\n[specialists.reviewer]\nmodel = "x"\n[specialists.numa2]\nmodel = "x"\n[specialists.apolo]\npersona = "I am."\n'
    )
    rows = catalog.load(config.load(home, {}))
    assert rows.get("reviewer").own and rows.get("apolo").own
