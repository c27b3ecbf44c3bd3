"""Draw docs/play.gif: the page on which a goal is set with the mouse, in a real browser.

python docs/make_play_gif.py          # needs Chromium, and what the tests need

Every step of the world is one frame, however busy this machine is.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from latent_planner.cli.play.players import Player
from latent_planner.cli.play.server import running
from latent_planner.cli.play.session import Session
from latent_planner.evaluation.video import held, write_gif

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import drive  # noqa: E402

SEED = 1  # of the start
WINDOW, WIDTH = (1000, 850), 720  # px of the browser's window, and of the GIF's width
FPS, COLOURS = 10.0, 128
DRAG = (-60, 40)  # px by which the block of the goal is dragged, and then the knob that turns it
TURN = (0, 40)
MOST, HOLD = 80, 12  # steps of the world; frames for which the end stays
CURSOR = """(() => {
  const it = document.createElement('div');
  it.id = 'cursor';
  it.textContent = '\\u261D';
  Object.assign(it.style, {position: 'fixed', zIndex: 9, fontSize: '30px', pointerEvents: 'none',
    color: '#000', textShadow: '0 0 3px #fff, 0 0 3px #fff', transform: 'translate(-12px, -2px)'});
  document.body.append(it);
})()"""


def main() -> None:
    session = Session(Player.load("pusht", device="cpu", seed=SEED))
    with (
        running(session) as server,
        tempfile.TemporaryDirectory() as profile,
        drive.tab(server.address, Path(profile), width=WINDOW[0], height=WINDOW[1]) as page,
    ):
        page.until("document.body.dataset.ready")
        known = session.players.known()
        assert known is not None
        known.wait()  # so that ghosts are drawn as they will be
        for name in ("rate", "ms"):  # step by step, times mean nothing
            page.ask(f"document.querySelector('#{name}').parentElement.hidden = true")
        page.ask("document.querySelector('#freeze').click()")  # the goal begins as the present
        page.until("document.querySelector('#how').textContent.startsWith('Drag')")
        page.ask(CURSOR)
        frames = held([*dragged(page, ".handle[data-name=block]", DRAG), *dragged(page, ".knob", TURN),
                       *played(page)], HOLD)  # fmt: skip
        out = write_gif(ROOT / "docs" / "play.gif", frames, FPS, width=WIDTH, colours=COLOURS)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def dragged(page: drive.Tab, what: str, by: tuple[float, float]) -> Iterator[np.ndarray]:
    """A thing of the goal is taken and led somewhere."""
    for share in page.leading(f"#goal {what}", *by, moves=12):
        x, y = share
        page.ask(f"Object.assign(document.querySelector('#cursor').style, {{left: '{x}px', top: '{y}px'}})")
        time.sleep(0.3)  # until the program has drawn it
        yield shot(page)


def played(page: drive.Tab) -> Iterator[np.ndarray]:
    """The world, step by step until the goal is reached."""
    page.ask("document.querySelector('#cursor').hidden = true")
    for step in range(1, MOST + 1):
        page.ask("document.querySelector('#step').click()")
        page.until(f"document.querySelector('#state').textContent.startsWith('step {step} ')")
        time.sleep(0.1)  # until it is painted
        yield shot(page)
        if page.ask("document.body.dataset.reached"):
            return


def shot(page: drive.Tab) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.picture(whole=False))).convert("RGB"))


if __name__ == "__main__":
    main()
