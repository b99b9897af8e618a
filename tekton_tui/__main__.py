"""`tekton-tui`: open the console. Paints first; the backend is looked for, or started, behind the first frame."""

from __future__ import annotations

import argparse
import os
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the console until it is left; return the exit code."""
    options = _parser().parse_args(arguments)
    if options.version:
        import backend

        print(f"tekton-tui {backend.__version__}")
        return 0
    if options.home:
        os.environ["TEKTON_HOME"] = options.home
    if options.serve:
        from tekton_tui.web import serve

        return serve(
            options.serve_port,
            host=options.serve_host,
            url=options.connect,
            token_file=options.token_file or os.environ.get("TEKTON_TOKEN_FILE"),
            ca_file=options.ca_file,
        )
    from backend import interrupt
    from tekton_tui.app import TektonApp
    from tekton_tui.connecting import connector
    from tekton_tui.hangup import EXIT_HANGUP, leave_on_hangup
    from tekton_tui.preferences import home_folder, read_preferences

    app = TektonApp(
        connector(options.home, options.connect, options.token_file, options.ca_file),
        theme=options.theme,
        preferences=read_preferences(home_folder(options.home)),
    )
    leave_on_hangup(lambda: app.call_from_thread(app.exit, return_code=EXIT_HANGUP))
    interrupt.heard_from_here()
    app.run()
    return app.return_code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tekton-tui",
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
        "--ca-file", help="who signed that gateway's certificate (PEM; default: TEKTON_CA_FILE, the system's)"
    )
    parser.add_argument(
        "--theme", default="", help="for this run: tekton-dark, tekton-light or one of Textual's"
    )
    parser.add_argument(
        "--serve", action="store_true", help="offer the console to a browser, behind the token"
    )
    parser.add_argument("--serve-port", type=int, default=8890, help="port for --serve (default 8890)")
    parser.add_argument(
        "--serve-host", default="127.0.0.1", help="address for --serve (default: this machine alone)"
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    return parser


if __name__ == "__main__":
    sys.exit(main())
