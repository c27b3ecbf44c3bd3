"""Serve an agent to robot programs, in the wire format of openpi's policy server. Its client works unchanged.

    latent-planner serve pusht --port 8000
    latent-planner serve runs/mine --host 0.0.0.0 --api-key-file key.txt

A WebSocket carries binary msgpack. The server first sends what it is (`connection.metadata`), then answers
each observation with a plan; what a request may hold is in `connection`, and `client` is a client.
A request that cannot be answered gets one line of text, and the connection goes on. Every connection has a
session of its own, freed when it ends. GET /healthz answers OK. SIGTERM answers what is under way and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import logging
import os
import time
from collections.abc import Sequence

from latent_planner.common.commands import in_words
from latent_planner.common.files import read_bytes
from latent_planner.common.serving import stop_on_signals

from .server import Limits, PolicyServer, use_threads

log = logging.getLogger(__name__)
LARGEST_KEY = 1 << 16  # bytes of the file that holds it
KEY_VARIABLE = "AGENT_API_KEY"


class ServeError(ValueError):
    """The server cannot be started like this; the message says what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 when it was stopped, 2 on a user error, 130 when it was interrupted while it started."""
    args = parse(argv)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    with in_words(ServeError) as outcome:
        key = _api_key(args)
        server, story = _load(args, key)
        try:
            asyncio.run(_serve(server, story))
        except OSError as error:
            raise ServeError(f"{args.host}:{args.port}: {error}") from None
    return outcome.code


async def _serve(server: PolicyServer, story: str) -> None:
    stop_on_signals(server.stop)

    def ready() -> None:
        print(f"serving {story}", f"ws://{server.host}:{server.port}  (Ctrl-C ends it)", sep="\n", flush=True)

    await server.run(ready)
    print("stopped", flush=True)


def _load(args: argparse.Namespace, api_key: str | None) -> tuple[PolicyServer, str]:
    """The server, and a line on what it serves and what starting took."""
    started = time.perf_counter()
    try:
        import msgpack  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise ServeError(f"the server needs {error.name}: pip install 'latent-planner[serve]'") from None
    log.info("importing torch and the agent ...")
    from latent_planner.planners import PlanError

    from ..agent import Agent
    from ..checkpoints.checkpoint import CheckpointError
    from ..seen import blank

    imported = time.perf_counter()
    log.info("imported in %.1f s; loading %s ...", imported - started, args.checkpoint)
    limits = Limits(args.max_connections, int(args.max_mb * 2**20), args.idle, args.deadline, args.patience)
    try:
        agent = Agent.from_pretrained(args.checkpoint, device=args.device, seed=args.seed)
        loaded = time.perf_counter()
        log.info("loaded in %.1f s; making a first plan on %s ...", loaded - imported, agent.device)
        server = PolicyServer(
            agent,
            host=args.host,
            port=args.port,
            api_key=api_key,
            image_key=args.image_key,
            limits=limits,
            workers=args.workers,
            threads=args.threads,
        )
        use_threads(server.threads)
        trial = agent.clone()
        frame = blank(agent.config)
        trial.set_goal(frame)
        trial.prepare()
        trial.replan(frame)
    except (CheckpointError, PlanError) as error:
        raise ServeError(str(error)) from None
    planned = time.perf_counter()
    story = (
        f"{args.checkpoint} on {agent.device}: {imported - started:.1f} s to import, "
        f"{loaded - imported:.1f} s to load, {planned - loaded:.1f} s for a first plan; "
        f"up to {server.workers} at a time, each with {agent.threads}"
    )
    gc.freeze()  # what is loaded stays: looking for garbage is then a matter of milliseconds
    return server, story


def _api_key(args: argparse.Namespace) -> str | None:
    key = os.environ.get(KEY_VARIABLE)
    if args.api_key_file is not None:
        try:
            key = read_bytes(args.api_key_file, LARGEST_KEY).decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ServeError(f"{args.api_key_file} is no text in UTF-8: put the API key into it") from None
    if key is not None and not key:
        raise ServeError("the API key is empty: put one into the file, or leave the file out")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ServeError(
            "no client can send this API key: it must be one line of ASCII letters, digits and signs"
        )
    if key is None and not args.no_api_key and not _is_loopback(args.host):
        raise ServeError(
            f"{args.host} lets other machines in: give --api-key-file FILE (or {KEY_VARIABLE}), "
            "or --no-api-key to do without"
        )
    return key


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    about, limits = str(__doc__), Limits()
    parser = argparse.ArgumentParser(
        "latent-planner serve", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", help="bundled name, run folder or hf://owner/name")
    add("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    add("--port", type=_port, default=8000, help="0: any that is free (default: %(default)s)")
    add(
        "--api-key-file",
        metavar="FILE",
        help=f"a file with the key that clients must give; or {KEY_VARIABLE}",
    )
    add("--no-api-key", action="store_true", help="let anyone in who reaches this host")
    add("--image-key", default="observation/image", help="where requests hold the frame (%(default)s)")
    add("--deadline", type=_positive, metavar="S", help="most seconds for one plan (default: none)")
    add(
        "--patience", type=_positive, default=limits.patience, metavar="S", help="longest wait for one's turn"
    )
    add(
        "--idle",
        type=_positive,
        default=limits.idle_seconds,
        metavar="S",
        help="end silent connections after",
    )
    add("--max-connections", type=_count, default=limits.connections, metavar="N")
    add(
        "--max-mb",
        type=_positive,
        default=limits.message_bytes / 2**20,
        help="of one message, pictures included (default: %(default)s)",
    )
    add("--workers", type=_count, metavar="N", help="plans at the same time (default: one per core)")
    add(
        "--threads",
        type=_count,
        metavar="N",
        help="at most, for one plan (default: the cores, shared among the workers)",
    )
    add("--device", default="auto")
    add("--seed", type=int)
    return parser.parse_args(argv)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _port(text: str) -> int:
    if not 0 <= int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return int(text)
