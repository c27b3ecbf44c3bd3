"""Hostile messages to the policy server, over the loopback: whatever they are, it answers or hangs up."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mutations import damage_bytes, odd_value, pick
from server_abuse import IMAGE, KEY, Target, frame, next_frame, picture, serving

from latent_planner.deploy.client import Client, pack

AT_ONCE = 8  # connections
REPLY = 60.0  # seconds for a reply


def message(rng: np.random.Generator) -> bytes:
    """A frame of a client: a request that is damaged, odd or nonsense; now and then a damaged frame."""
    request: dict[str, Any] = {IMAGE: picture(16, 16), "goal/image": picture(16, 16), "deadline": 0.001}
    kind = int(rng.integers(6))
    if kind == 0:
        return frame(rng.bytes(int(rng.integers(0, 400))), pick(rng, (1, 2)))
    if kind == 1:
        shape = tuple(int(side) for side in rng.integers(0, 9, int(rng.integers(0, 5))))
        request[pick(rng, (IMAGE, "goal/image"))] = np.zeros(
            shape, pick(rng, ("u1", "f4", "f8", "i8", "?", "U3"))
        )
    elif kind in (2, 3):
        names = (
            IMAGE,
            "goal/image",
            "goal/steps",
            "reset",
            "timestamp",
            "executed",
            "committed",
            "deadline",
            "x",
        )
        request[pick(rng, names)] = odd_value(rng)
    try:
        packed = pack(request)
    except (ValueError, TypeError, OverflowError, UnicodeError):  # what the client's own side refuses
        packed = pack({IMAGE: None})
    if kind in (4, 5):
        packed = damage_bytes(packed, rng)
    whole = frame(packed, pick(rng, (2, 2, 2, 1)))
    return damage_bytes(whole, rng) if rng.random() < 0.02 else whole


async def attack(target: Target, count: int, seed: int) -> Counter[str]:
    """Send `count` messages, each after the reply to the one before; come back when cut off."""
    counted: Counter[str] = Counter()

    async def client(number: int) -> None:
        rng = np.random.default_rng([seed, number])
        sent = 0
        while sent < count // AT_ONCE:
            try:
                reader, writer = await target.enter()
            except (OSError, EOFError):
                counted["refused"] += 1
                await asyncio.sleep(0.05)
                continue
            with contextlib.suppress(OSError, EOFError):
                while sent < count // AT_ONCE:
                    writer.write(message(rng))
                    sent += 1
                    try:
                        await asyncio.wait_for(next_frame(reader), 2.0)
                        counted["answered"] += 1
                    except TimeoutError:  # a damaged frame, whose end the server waits for
                        counted["cut"] += 1
                        break
                    except (OSError, EOFError):
                        counted["cut"] += 1
                        break
            writer.close()

    await asyncio.gather(*(client(number) for number in range(AT_ONCE)))
    return counted


def messages(count: int, seed: int, home: Path, say: Callable[..., None]) -> Counter[str]:
    """Counted as fine: answered, or cut off. A traceback in the server's log counts as one; a well-behaved
    client that is not served afterwards as lost."""
    counted: Counter[str] = Counter()
    if not count:
        return counted
    home.mkdir(parents=True)
    log = home / "log.txt"
    os.environ["OMP_NUM_THREADS"] = "1"
    with serving("pusht", log) as (process, port):
        found = asyncio.run(attack(Target(port, "127.0.0.1"), count, seed))
        counted["fine"] += found["answered"] + found["cut"]
        try:
            client = Client(f"ws://127.0.0.1:{port}", api_key=KEY, timeout=REPLY)
            client.set_goal(picture(64, 64))
            plan = client.replan(picture(64, 64), executed=0)
            if not np.isfinite(plan.actions).all() or np.abs(plan.actions).max() > 1:
                raise ValueError(f"actions {plan.actions}")
            client.close()
        except Exception as error:
            counted["lost"] += 1
            say("hostile messages", "afterwards: lost", repr(error))
    text = log.read_text(errors="replace")
    if process.returncode:
        counted["traceback"] += 1
        say("hostile messages", "the server ended", f"exit code {process.returncode}")
    if text.count("Traceback"):
        counted["traceback"] += text.count("Traceback")
        say("hostile messages", "log", text[:100_000])
    return counted
