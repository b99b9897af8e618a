"""Textual's drivers for a terminal and for a browser, with pastes found at the byte level. Knows no widgets."""

from __future__ import annotations

import os
import selectors
import time
from codecs import getincrementaldecoder
from collections.abc import Callable
from typing import Final

from textual import events
from textual._xterm_parser import XTermParser
from textual.driver import Driver
from textual.drivers._byte_stream import ByteStream
from textual.drivers.linux_driver import LinuxDriver
from textual.drivers.web_driver import WebDriver, _ExitInput  # pyright: ignore[reportPrivateUsage]
from textual.message import Message

from tekton_tui.runtime.bracketed_paste import PasteSplitter

READ_BYTES: Final = 65_536
TICK_S: Final = 0.1
"""How often Textual's parser is asked whether a lone ESC was the key."""
BRACKET_S: Final = 0.03
"""How long the rest of a bracket is waited for: it is cut where a read ends, and the next read follows at once."""
PASTE_S: Final = 2.0
"""How long the rest of a paste is waited for; a terminal that forgot the end must not swallow all keys for ever."""


class InputReader:
    """Turns bytes into Textual's messages; each paste is one `Paste`, whatever is in it and however it was cut.

    Args:
        deliver: Gets the messages. Called from the thread that reads.
    """

    def __init__(self, deliver: Callable[[Message], object], *, debug: bool = False) -> None:
        self._deliver = deliver
        self._splitter = PasteSplitter()
        self._parser = XTermParser(debug)
        self._decode = getincrementaldecoder("utf-8")(errors="replace").decode
        self._last = time.monotonic()

    @property
    def patience(self) -> float:
        """How many seconds to wait for bytes before `tick`."""
        # What is held back must not wait for a whole tick of the parser.
        return BRACKET_S if self._splitter.waiting else TICK_S

    def feed(self, data: bytes) -> None:
        self._last = time.monotonic()
        self._hand_on(self._splitter.feed(data))

    def tick(self) -> None:
        """Deliver what was held back for long enough. To be called when no bytes came for `patience` seconds."""
        if self._splitter.waiting:
            limit = PASTE_S if self._splitter.pasting else BRACKET_S
            if time.monotonic() - self._last >= limit:
                self._hand_on(self._splitter.flush())
        for message in self._parser.tick():
            self._deliver(message)

    def _hand_on(self, parts: list[bytes | str]) -> None:
        for part in parts:
            if isinstance(part, str):
                self._deliver(events.Paste(part))
            elif text := self._decode(part):
                for message in self._parser.feed(text):
                    self._deliver(message)


class TerminalDriver(LinuxDriver):
    """A terminal. What cannot be read any more ends the reading, not the console: that is the hang-up's business."""

    def run_input_thread(self) -> None:
        """Read until told to stop or the terminal is gone."""
        reader = InputReader(self.process_message, debug=self._debug)
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            # typed while this program was loaded, the terminal still being one of lines: it wrote Enter as a line end
            early = bool(selector.select(0))
            while not self.exit_event.is_set():
                if selector.select(reader.patience):
                    try:
                        data = os.read(self.fileno, READ_BYTES)
                    except OSError:
                        return
                    # an empty read is the end of input: the terminal is gone
                    if not data:
                        return
                    reader.feed(data.replace(b"\n", b"\r") if early else data)
                    early = False
                else:
                    reader.tick()


class BrowserDriver(WebDriver):
    """A browser behind `--serve`: packets with what a terminal would send, and others with what it says of itself."""

    def run_input_thread(self) -> None:
        """Read until the server says that it is over."""
        reader = InputReader(self.process_message, debug=self._debug)
        packets = ByteStream()
        try:
            for data in self._input_reader:
                for kind, payload in packets.feed(data) if data else ():
                    if kind == "D":
                        reader.feed(payload)
                    else:
                        self._on_meta(kind, payload)
                reader.tick()
        except _ExitInput:
            pass
        finally:
            self._input_reader.close()


OURS: Final[dict[type[Driver], type[Driver]]] = {LinuxDriver: TerminalDriver, WebDriver: BrowserDriver}


def exact(driver: type[Driver]) -> type[Driver]:
    """Return the driver of ours that stands for one of Textual's; others as they are."""
    return OURS.get(driver, driver)
