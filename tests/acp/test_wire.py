"""Frames of the Agent Client Protocol, and its values against the SDK's own."""

import acp.schema as sdk
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.acp import messages as m
from backend.acp import wire
from backend.acp.wire import BadLine, Frame, FrameReader

LINES = (
    wire.request(1, "initialize", m.Initialize(1))
    + b"starting up\n"
    + wire.notification("session/cancel", m.SessionId("s"))
    + b'{"id":1}{\n\r\n'
    + wire.result(1, m.Prompted("end_turn"))
    + wire.failure(None, -32700, "what?")
)


@given(st.lists(st.integers(0, len(LINES)), max_size=12))
def test_frames_are_the_same_however_the_stream_is_cut(cuts):
    reader = FrameReader()
    at, found = 0, []
    for cut in [*sorted(cuts), len(LINES)]:
        found += reader.feed(LINES[at:cut])
        at = cut
    assert found == FrameReader().feed(LINES)
    kinds = [type(one) for one in found]
    assert kinds == [Frame, BadLine, Frame, BadLine, Frame, Frame]
    assert [one.noise for one in found if isinstance(one, BadLine)] == [True, False]


@pytest.mark.parametrize("step", [7, 100_000])
def test_a_line_that_is_too_long_costs_itself_alone(step):
    reader = FrameReader(limit=1_000)
    data = b'{"method":"a"}\n' + b"x" * 50_000 + b"\n" + b'{"method":"b"}\n'
    found = [one for at in range(0, len(data), step) for one in reader.feed(data[at : at + step])]
    assert [getattr(one, "method", "long") for one in found] == ["a", "long", "b"]
    assert "1,000 bytes" in found[1].why


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":[1],"result":{}}',
        b'{"method":5}',
        b"{}",
        b'{"id":null}',
        b"{\xff",
        b'{"id":1,"error":5}',
        b"[" * 9_000,
        b'{"params":' * 9_000,
    ],
)
def test_what_is_no_frame_says_why(line):
    [bad] = FrameReader().feed(line + b"\n")
    assert isinstance(bad, BadLine) and bad.why and len(bad.why) < 400


VALUES = [
    (
        m.Initialize(1, m.ClientAbilities(m.FileAccess(True, False), True), m.Named("tekton", "1")),
        sdk.InitializeRequest,
    ),
    (
        m.Initialized(
            1,
            m.AgentAbilities(True, m.PromptAbilities(True), m.McpAbilities(), m.SessionAbilities({}, {}, {})),
            [m.AuthMethod("login", "Log in")],
            m.Named("tekton", "1"),
        ),
        sdk.InitializeResponse,
    ),
    (m.Authenticate("login"), sdk.AuthenticateRequest),
    (m.NewSession("/tmp"), sdk.NewSessionRequest),
    (m.LoadSession("s", "/tmp"), sdk.LoadSessionRequest),
    (m.LoadSession("s", "/tmp"), sdk.ResumeSessionRequest),
    (
        m.SessionOpened(
            "s",
            m.Modes("ask", [m.Mode("ask", "Ask")]),
            None,
            [m.ConfigOption("model", "Model", "select", "a", [m.Choice("a", "A")], "model")],
        ),
        sdk.NewSessionResponse,
    ),
    (m.Sessions([m.ListedSession("s", "/tmp", "Title")]), sdk.ListSessionsResponse),
    (m.SetMode("s", "ask"), sdk.SetSessionModeRequest),
    (m.SetConfigOption("s", "model", "b"), sdk.SetSessionConfigOptionSelectRequest),
    (m.SetConfigOption("s", "web", True, "boolean"), sdk.SetSessionConfigOptionBooleanRequest),
    (
        m.Prompt(
            "s",
            [
                m.Block("text", "hi"),
                m.Block("image", data="aGk=", mime_type="image/png"),
                m.Block("resource", resource=m.Resource("file:///a", "text")),
            ],
        ),
        sdk.PromptRequest,
    ),
    (m.Prompted("end_turn", m.TokenUse(3, 1, 2)), sdk.PromptResponse),
    (
        m.RequestPermission(
            "s", m.ToolUpdate("t", "Edit", "edit"), [m.PermissionOption("y", "Yes", "allow_once")]
        ),
        sdk.RequestPermissionRequest,
    ),
    (m.Permission(m.Outcome("selected", "y")), sdk.RequestPermissionResponse),
    (m.Permission(m.Outcome("cancelled")), sdk.RequestPermissionResponse),
    (m.ReadFile("s", "/tmp/a", 1, 2), sdk.ReadTextFileRequest),
    (m.WriteFile("s", "/tmp/a", "x"), sdk.WriteTextFileRequest),
    (m.FileText(""), sdk.ReadTextFileResponse),
    (m.CreateTerminal("s", "ls", ["-l"], [m.Variable("A", "b")]), sdk.CreateTerminalRequest),
    (m.TerminalId("t"), sdk.CreateTerminalResponse),
    (m.TerminalOutput("x", False, m.ExitStatus(0)), sdk.TerminalOutputResponse),
]


@pytest.mark.parametrize(("value", "kind"), VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_the_same_to_the_sdk(value, kind):
    theirs = kind.model_validate_json(msgspec.json.encode(value))
    back = theirs.model_dump_json(by_alias=True, exclude_none=True)
    assert msgspec.json.decode(back, type=type(value)) == value


UPDATES = [
    sdk.AgentMessageChunk(
        session_update="agent_message_chunk", content=sdk.TextContentBlock(type="text", text="hi")
    ),
    sdk.ToolCallStart(
        session_update="tool_call",
        tool_call_id="t",
        title="Edit a",
        kind="edit",
        status="pending",
        content=[sdk.FileEditToolCallContent(type="diff", path="/a", old_text=None, new_text="x")],
        locations=[sdk.ToolCallLocation(path="/a", line=3)],
        raw_input={"path": "/a"},
    ),
    sdk.AgentPlanUpdate(
        session_update="plan",
        entries=[sdk.PlanEntry(content="look", priority="high", status="in_progress")],
    ),
    sdk.UsageUpdate(
        session_update="usage_update", used=5, size=10, cost=sdk.Cost(amount=0.5, currency="USD")
    ),
    sdk.CurrentModeUpdate(session_update="current_mode_update", current_mode_id="ask"),
]


@pytest.mark.parametrize("theirs", UPDATES, ids=lambda update: update.session_update)
def test_an_update_of_the_sdks_is_read(theirs):
    line = sdk.SessionNotification(session_id="s", update=theirs).model_dump_json(
        by_alias=True, exclude_none=True
    )
    update = msgspec.json.decode(line, type=m.SessionUpdate).update
    match update.session_update:
        case "agent_message_chunk":
            assert update.block == m.Block("text", "hi")
        case "tool_call":
            tool = update.tool
            assert tool.content == [m.ToolContent("diff", path="/a", new_text="x")]
            assert (tool.kind, tool.status, tool.raw_input) == ("edit", "pending", {"path": "/a"})
            assert tool.locations == [m.Location("/a", 3)]
        case "plan":
            assert update.entries == [m.PlanEntry("look", "high", "in_progress")]
        case "usage_update":
            assert (update.used, update.size, update.cost) == (5, 10, m.Cost(0.5, "USD"))
        case _:
            assert update.current_mode_id == "ask"
