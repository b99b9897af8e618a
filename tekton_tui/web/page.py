"""The page that shows the console in a browser: its title and icon, the terminal, and the keyboard in it from the beginning.

Everything on it comes from this server: no font, script or picture of anybody else's. Knows the script of textual-serve,
which draws in `.textual-terminal` and tells by classes of the body what it has received.
"""

from __future__ import annotations

from html import escape
from typing import Final
from urllib.parse import quote

from tekton_tui.runtime.themes import TEKTON_DARK

GROUND, TEXT, ACCENT = str(TEKTON_DARK.background), str(TEKTON_DARK.foreground), TEKTON_DARK.primary
ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='6' "
    f"fill='{quote(GROUND)}'/%3E%3Cpath d='M7 9h18M16 9v15' stroke='{quote(ACCENT)}' stroke-width='5' stroke-linecap='round'/%3E%3C/svg%3E"
)
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>__NAME__</title>
<link rel="icon" href="__ICON__">
<link rel="stylesheet" href="/static/css/xterm.css">
<style>
@font-face { font-family: "Roboto Mono"; src: url("/static/fonts/RobotoMono-VariableFont_wght.ttf"); font-weight: 100 700; }
@font-face {
  font-family: "Roboto Mono"; font-style: italic; font-weight: 100 700;
  src: url("/static/fonts/RobotoMono-Italic-VariableFont_wght.ttf");
}
html, body { background: __GROUND__; color: __TEXT__; margin: 0; height: 100%; overflow: hidden; font: 16px "Roboto Mono", monospace; }
.textual-terminal { height: 100vh; }
.over { position: absolute; inset: 0; display: grid; place-items: center; background: __GROUND__; z-index: 10; }
body.-first-byte .begins, body:not(.-closed) .ended { display: none; }
button { font: inherit; padding: .5em 2em; margin-top: 1em; color: __GROUND__; background: __ACCENT__; border: 0; cursor: pointer; }
</style>
<script>
// That script sends what is typed whether or not the connection is open, and what is not open throws: the first keys would be lost.
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  if (this.readyState === WebSocket.CONNECTING) { this.addEventListener("open", () => send.call(this, data), {once: true}); }
  else { send.call(this, data); }
};
</script>
<script src="/static/js/textual.js"></script>
</head>
<body>
<div class="over begins"><div>__NAME__ begins…<button id="start" hidden></button></div></div>
<div class="over ended"><div>This console has ended.<br><button onclick="location.reload()">Open it again</button></div></div>
<div id="terminal" class="textual-terminal" data-session-websocket-url="__SOCKET__" data-font-size="__FONT__"></div>
<script>
function toTheKeys() {
  const keys = document.querySelector(".xterm-helper-textarea");
  if (keys) { keys.focus(); }
  return keys;
}
const waiting = setInterval(() => { if (toTheKeys()) { clearInterval(waiting); } }, 20);
window.addEventListener("focus", toTheKeys);
</script>
</body>
</html>
"""


def page(name: str, websocket_url: str, font_pixels: int) -> str:
    """Return the page as HTML; `websocket_url` is where the terminal's bytes come from."""
    given = {
        "__NAME__": name, "__ICON__": ICON, "__SOCKET__": websocket_url, "__FONT__": str(font_pixels),
        "__GROUND__": GROUND, "__TEXT__": TEXT, "__ACCENT__": ACCENT,
    }  # fmt: skip
    text = _PAGE
    for mark, value in given.items():
        text = text.replace(mark, escape(value, quote=True))
    return text
