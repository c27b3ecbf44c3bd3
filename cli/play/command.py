"""Play with a trained model on a page in the browser: set a goal with the mouse, watch the agent think.

    latent-planner play two_room                       # a bundled name, a run folder, or hf://owner/name
    latent-planner play runs/mine planner=mppi planner.deadline=0.1
    latent-planner play pusht runs/mine                # two side by side, from the same start
    latent-planner play session.json                   # a recording that the page has saved

The page is served from this machine, to this machine alone, at an address with a key that nobody can guess.
Ctrl-C ends it. A tab that stays open comes back by itself when the program is started anew.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latent_planner.common.commands import in_words
from latent_planner.common.serving import stop_on_signals
from latent_planner.envs.gym.making import bring

from ..overrides import ConfigError
from ..plan_options import Parser
from ..user_errors import USER_ERRORS
from .keys import own_key
from .recorder import Replayed, ReplayError, looks_like_replay, read_replay

log = logging.getLogger(__name__)

HERE = "127.0.0.1"
PORT = 8017


def main(argv: Sequence[str] | None = None) -> int:
    """0 when it was stopped, 2 on a user error, 130 when it was interrupted while it started."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with in_words(*USER_ERRORS) as outcome:
        args = parse(sys.argv[1:] if argv is None else argv)
        bring(args.module)
        place = {"host": args.host, "port": args.port, "show": args.show}
        if len(args.names) == 1 and looks_like_replay(Path(args.names[0])):
            replay(Path(args.names[0]), **place)
        else:
            play(args.names, args.overrides, device=args.device, seed=args.seed, **place)
    return outcome.code


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; `overrides` holds the key=value words."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser("latent-planner play", description=__doc__, formatter_class=form)
    parser.add_argument(
        "words", nargs="*", metavar="CHECKPOINT | RECORDING | planner.KEY=VALUE",
        help="what to play with (default: pusht), and how it plans, as for plan.py",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=PORT, help=f"of this machine (default: {PORT}; 0: any)")
    parser.add_argument("--seed", type=int, default=None, help="of starts, goals and planner")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--no-browser", dest="show", action="store_false", help="do not open the page")
    parser.add_argument("--host", default=HERE, help=f"where to listen (default: {HERE}, this machine alone)")
    parser.add_argument("--module", metavar="NAME", help="module of yours that registers the world gym:ID")
    args = parser.parse_intermixed_args(list(argv))
    args.overrides = [word for word in args.words if "=" in word]
    args.names = [word for word in args.words if "=" not in word] or ["pusht"]
    if not 0 <= args.port <= 65535:
        raise ConfigError(f"--port must lie between 0 and 65535, not {args.port}")
    return args


def play(
    names: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    device: str | None = None,
    seed: int | None = None,
    host: str = HERE,
    port: int = PORT,
    show: bool = True,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    names: of checkpoints; of several, the first two are shown side by side, and the others can be chosen.
    show: open the page in the browser. Raises ConfigError and the errors of loading, settings and worlds.
    """
    need_websockets()
    from .players import Player
    from .session import Session

    first, *others = dict.fromkeys(names)
    player = Player.load(first, overrides, device=device, seed=seed)
    second = player.other(others[0]) if others else None
    serve(Session(player, second=second, others=others), host=host, port=port, show=show)


def replay(path: Path, *, host: str = HERE, port: int = PORT, show: bool = True) -> None:
    """Serve a recording that the page has saved. ConfigError where it is none."""
    need_websockets()
    try:
        messages = read_replay(path)
    except ReplayError as error:
        raise ConfigError(str(error)) from None
    serve(Replayed(messages), host=host, port=port, show=show)


def serve(shown: Any, *, host: str, port: int, show: bool) -> None:
    """Serve what is shown (see server.Shows) until Ctrl-C or SIGTERM. ConfigError for a port in use."""
    from .server import PageServer

    server = PageServer(shown, host=host, port=port, key=own_key())
    try:
        asyncio.run(_serve(server, show))
    except OSError as error:
        raise ConfigError(
            f"{host} port {port} cannot be used ({error.strerror}); choose another with --port"
        ) from None


def need_websockets() -> None:
    """ConfigError without the server's library."""
    try:
        import websockets  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"the page needs {error.name}: pip install 'latent-planner[serve]'") from None


async def _serve(server: Any, show: bool) -> None:
    stop_on_signals(server.stop)

    def ready() -> None:
        print(f"open {server.address}  (Ctrl-C ends it)", flush=True)
        if server.host != HERE:
            log.warning("whoever has this address may use the page, and it travels unencrypted")
        if show:
            webbrowser.open(server.address)

    await server.run(ready)
    print("stopped", flush=True)
