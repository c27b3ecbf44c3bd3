"""Play with a trained model on a page in the browser: set a goal with the mouse, watch the agent think.

    latent-planner play two_room                       # a bundled name, a run folder, or hf://owner/name
    latent-planner play runs/mine planner=mppi planner.deadline=0.1

The page is served from this machine, to this machine alone, at an address with a key that nobody can guess.
Ctrl-C ends it. With a key of your own in LATENT_PLANNER_PLAY_KEY, a tab that is open comes back by itself
when the program is started anew.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from latent_planner import Agent, looks
from latent_planner.checkpoints import checkpoint
from latent_planner.common.commands import in_words
from latent_planner.common.serving import stop_on_signals

from ..overrides import ConfigError
from ..plan_options import Parser
from ..planner_words import planner_settings
from ..user_errors import USER_ERRORS

KEY_VARIABLE = "LATENT_PLANNER_PLAY_KEY"
PORT = 8017


def main(argv: Sequence[str] | None = None) -> int:
    """0 when it was stopped, 2 on a user error, 130 when it was interrupted while it started."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with in_words(*USER_ERRORS) as outcome:
        args = parse(sys.argv[1:] if argv is None else argv)
        play(
            args.checkpoint,
            args.overrides,
            device=args.device,
            seed=args.seed,
            port=args.port,
            show=args.show,
        )
    return outcome.code


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; `overrides` holds the key=value words."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser("latent-planner play", description=__doc__, formatter_class=form)
    parser.add_argument("checkpoint", nargs="?", default="pusht", help="what to play with (default: pusht)")
    parser.add_argument("overrides", nargs="*", metavar="planner.KEY=VALUE", help="as for plan.py")
    parser.add_argument("--port", type=int, default=PORT, help=f"of this machine (default: {PORT}; 0: any)")
    parser.add_argument("--seed", type=int, default=None, help="of starts, goals and planner")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--no-browser", dest="show", action="store_false", help="do not open the page")
    args = parser.parse_intermixed_args(list(argv))
    if "=" in args.checkpoint:
        args.checkpoint, args.overrides = "pusht", [args.checkpoint, *args.overrides]
    for word in args.overrides:
        if "=" not in word:
            raise ConfigError(
                f"{word!r} is not key=value; give one checkpoint, then words such as planner=mppi"
            )
    if not 0 <= args.port <= 65535:
        raise ConfigError(f"--port must lie between 0 and 65535, not {args.port}")
    return args


def play(
    name: str,
    overrides: Sequence[str] = (),
    *,
    device: str | None = None,
    seed: int | None = None,
    port: int = PORT,
    show: bool = True,
) -> None:
    """Serve the page for a checkpoint until Ctrl-C or SIGTERM; show: open it in the browser.

    Raises ConfigError and the errors of loading, planner settings and worlds.
    """
    try:
        import websockets  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"the page needs {error.name}: pip install 'latent-planner[serve]'") from None
    from .server import PageServer
    from .session import Session

    key = os.environ.get(KEY_VARIABLE)
    if key is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,100}", key):
        raise ConfigError(f"{KEY_VARIABLE} must be 16 to 100 letters and digits that nobody can guess")
    model, info = checkpoint.load(name)
    settings = planner_settings(overrides, info["planner"])
    known = looks.load(Path(info["path"]), info["sha256"])
    agent = Agent(model, settings, device=device or "auto", seed=seed, looks=known)
    server = PageServer(Session(agent, str(name), info["sha256"], info["planner"]), port=port, key=key)
    try:
        asyncio.run(_serve(server, show))
    except OSError as error:
        raise ConfigError(
            f"port {port} cannot be used ({error.strerror}); choose another with --port"
        ) from None


async def _serve(server: object, show: bool) -> None:
    from .server import PageServer

    assert isinstance(server, PageServer)
    stop_on_signals(server.stop)

    def ready() -> None:
        print(f"open {server.address}  (Ctrl-C ends it)", flush=True)
        if show:
            webbrowser.open(server.address)

    await server.run(ready)
    print("stopped", flush=True)
