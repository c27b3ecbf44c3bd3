"""The page in a headless browser: how soon it is there, and how many frames a second it shows.

    python tests/benchmarks/bench_play.py                       # the bundled PushT model
    python tests/benchmarks/bench_play.py pusht two_room        # two worlds side by side

The program runs as `latent-planner play` does, in a process of its own, and the agent works all the time: the
goal is a picture without a state, at which no world rests. Counted are the messages of each kind (and world)
that came over the WebSocket; `shown` counts the steps of the first world that the page has shown. Needs
Chromium and the extra [serve].
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the browser of the tests

import drive  # noqa: E402

READY = "document.body.dataset.ready"
TIMES = """(() => {
  const [page] = performance.getEntriesByType('navigation');
  const painted = performance.getEntriesByType('paint').map(each => each.startTime);
  return [page.loadEventEnd, Math.max(...painted), performance.now()];
})()"""
COUNT_SHOWN = """window.shown = 0;
  const observer = new MutationObserver(() => { window.shown += 1; });
  observer.observe(document.querySelector('#state'), {childList: true});"""


@contextmanager
def program(names: list[str]) -> Iterator[tuple[str, int]]:
    """The address of the page of `latent-planner play`, and its process."""
    command = [sys.executable, "-m", "latent_planner.cli", "play", *names, "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[1], process.pid
        finally:
            process.terminate()
            process.wait()


def without_state(address: str) -> bytes:
    """The page's goal, as PNG, without what says which state it shows."""
    buffer = io.BytesIO()
    with urllib.request.urlopen(f"{address}goal.png") as answer:
        Image.fromarray(np.asarray(Image.open(answer).convert("RGB"))).save(buffer, "PNG")
    return buffer.getvalue()


def processor_seconds_of(pid: int) -> float:
    """Of all threads of a process."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def processor_seconds() -> tuple[float, float]:
    """(busy, all) seconds of all cores since the machine started."""
    values = [int(each) for each in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(values) - values[3] - values[4]) / 100, sum(values) / 100


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("names", nargs="*", default=["pusht"])
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with program(args.names) as (address, pid), tempfile.TemporaryDirectory() as profile:
        with drive.tab(address, Path(profile)) as page:
            page.until(READY)
            loaded, painted, _ = page.ask(TIMES)
            print(f"a new browser: loaded after {loaded:.0f} ms, painted after {painted:.0f} ms")
            loads = []
            for _ in range(5):
                page.reload()
                time.sleep(0.5)
                page.until(READY)
                loads.append(page.ask(TIMES)[:2])
            loaded, painted = (sorted(times)[2] for times in zip(*loads))
            print(f"reloaded (median of 5): loaded {loaded:.0f} ms, painted {painted:.0f} ms")
            page.drop("#goal .scene", without_state(address))
            page.until("document.querySelectorAll('#goal .handle').length === 0")
            page.ask("document.querySelector('#run').click()")
            page.until("parseInt(document.querySelector('#state').textContent.slice(5)) >= 20")
            page.ask(COUNT_SHOWN)
            page.events_of("Network.webSocketFrameReceived")
            own = processor_seconds_of(pid)
            shown, (busy, whole), began = page.ask("window.shown"), processor_seconds(), time.monotonic()
            counts: Counter[str] = Counter()
            while (spent := time.monotonic() - began) < args.seconds:
                time.sleep(0.25)
                page.ask("0")
                for event in page.events_of("Network.webSocketFrameReceived"):
                    message = json.loads(event["response"]["payloadData"])
                    counts[f"{message['kind']} {message.get('lane', 0)}"] += 1
            shown, own = page.ask("window.shown") - shown, processor_seconds_of(pid) - own
            busy, whole = (after - before for after, before in zip(processor_seconds(), (busy, whole)))
            said = ", ".join(f"{kind}: {n / spent:.1f}" for kind, n in sorted(counts.items()))
            print(f"a second, over {spent:.0f} s: {said}; shown {shown / spent:.1f}")
            print(f"the page says {page.text('#rate')} frames a second, a plan takes {page.text('#ms')}")
            print(f"the program takes {1000 * own / shown:.0f} ms of processor time for a step that is shown")
            print(f"the cores were busy {busy / whole:.0%} of the time")


if __name__ == "__main__":
    main()
