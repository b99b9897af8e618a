"""`tekton-tui`: open the console. Paints first; the backend is looked for, or started, behind the first frame."""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
from collections.abc import Callable
from typing import NoReturn

from backend.schema.variables import misspelt

EXIT_REFUSED = 2
"""What is wrong is the terminal, the home or the command."""


def main(arguments: list[str] | None = None, before_run: Callable[[], None] | None = None) -> int:
    """Run the console until it is left; return the exit code. `before_run` is called when all is imported."""
    options = build_parser().parse_args(arguments)
    if options.version:
        import backend

        print(f"tekton-tui {backend.__version__}")
        return 0
    if wrong := misspelt(os.environ):
        print(f"tekton-tui: {wrong}", file=sys.stderr)
        return EXIT_REFUSED
    if options.home:
        os.environ["TEKTON_HOME"] = options.home
    if options.serve:
        from tekton_tui.web.server import Certificate, serve

        return serve(
            options.serve_port,
            host=options.serve_host,
            url=options.connect or os.environ.get("TEKTON_CONNECT"),
            token_file=options.token_file or os.environ.get("TEKTON_TOKEN_FILE"),
            ca_file=options.ca_file or os.environ.get("TEKTON_CA_FILE"),
            certificate=Certificate(
                options.serve_cert or os.environ.get("TEKTON_TLS_CERT", ""),
                options.serve_key or os.environ.get("TEKTON_TLS_KEY", ""),
            ),
            without_tls=options.without_tls,
        )
    if options.plain:
        from tekton_tui.plain import run_plain
        from tekton_tui.runtime.connect import connector

        return run_plain(connector(options.home, options.connect, options.token_file, options.ca_file))
    if problem := _why_not(options):
        print(f"tekton-tui: {problem}", file=sys.stderr)
        return EXIT_REFUSED
    # imports make many objects and no garbage: collections would take a tenth of the time to the first frame
    gc.disable()
    from tekton_tui.app import TektonApp
    from tekton_tui.runtime.connect import connector
    from tekton_tui.runtime.preferences import home_folder, read_preferences
    from tekton_tui.runtime.terminal import EXIT_HANGUP, TerminalState, leave_on_hangup, measure_the_terminal

    remote = options.connect or os.environ.get("TEKTON_CONNECT")
    app = TektonApp(
        connector(options.home, options.connect, options.token_file, options.ca_file),
        theme=options.theme,
        preferences=read_preferences(home_folder(options.home)),
        elsewhere=remote or "",
    )
    measure_the_terminal()
    terminal = TerminalState()
    terminal.leave_on_signals(app.leave)
    leave_on_hangup(lambda: app.leave(EXIT_HANGUP))
    if before_run is not None:
        before_run()
    try:
        app.run()
    finally:
        terminal.restore()
    return app.return_code or 0


def _why_not(options: argparse.Namespace) -> str:
    """Return why the console cannot start, in a sentence; a browser brings its own terminal."""
    if "TEXTUAL_DRIVER" in os.environ:
        return ""
    from tekton_tui.runtime.preferences import home_folder
    from tekton_tui.runtime.terminal import why_it_cannot_start

    remote = bool(options.connect or os.environ.get("TEKTON_CONNECT"))
    return why_it_cannot_start(home_folder(options.home), remote=remote)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Name the option that was meant by one that nobody knows."""
        _, _, unknown = message.partition("unrecognized arguments: ")
        if unknown.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(re.split("[ =]", unknown)[0], self._option_string_actions, 1)
            message += f"; did you mean {near[0]}?" if near else ""
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `tekton-tui`."""
    parser = _Parser(
        prog="tekton-tui",
        allow_abbrev=False,
        description="A full-screen console over your AI specialists. Starts a backend if none runs.",
    )
    parser.add_argument("--home", help="the platform's folder (default: TEKTON_HOME, else ~/.tekton)")
    parser.add_argument(
        "--connect",
        metavar="URL",
        help="a gateway elsewhere, such as https://10.0.0.5:8003 (default: TEKTON_CONNECT)",
    )
    parser.add_argument("--token-file", help="file with the token for --connect (default: TEKTON_TOKEN_FILE)")
    parser.add_argument(
        "--ca-file", help="CA that signed its certificate (PEM; default: TEKTON_CA_FILE, else the system's)"
    )
    parser.add_argument(
        "--theme", default="", help="theme for this run: tekton-dark, tekton-light or one of Textual's"
    )
    parser.add_argument(
        "--serve", action="store_true", help="serve the console to a browser, which needs the token"
    )
    parser.add_argument("--serve-port", type=int, default=8890, help="port for --serve (default 8890)")
    parser.add_argument(
        "--serve-host", default="127.0.0.1", help="address for --serve (default: this machine alone)"
    )
    parser.add_argument(
        "--serve-cert", metavar="FILE", help="certificate for --serve (PEM; default: TEKTON_TLS_CERT)"
    )
    parser.add_argument("--serve-key", metavar="FILE", help="its private key (default: TEKTON_TLS_KEY)")
    parser.add_argument(
        "--without-tls",
        action="store_true",
        help="allow --serve-host beyond this machine without TLS: what is typed can be read on the way",
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="line by line, without moving the cursor: for screen readers, dumb terminals and pipes",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
