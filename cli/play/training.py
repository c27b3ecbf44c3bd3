"""A training run as what a page shows: `train.py … play=true`.

Messages: "run", what is trained; "rows", the numbers so far, as metrics.jsonl has them; "plans", the newest
plans to validation goals as a film; "note".
"""

from __future__ import annotations

import base64
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from latent_planner.common.serving import in_a_thread
from latent_planner.evaluation import plots, video
from latent_planner.evaluation.video import Clip
from latent_planner.model.world_model import WorldModel

from .command import PORT
from .keys import own_key

log = logging.getLogger(__name__)

MOST_ROWS = 800  # shown; of more, every second one
FILMED = 6  # plans
PANEL, WIDTH, FPS = 112, 720, 10.0  # px of a world, px of the film, frames a second
SHOWN = (  # of a row
    "step", "minutes", "loss", "prediction", "held_out", "sigreg", "effective_rank", "latent_std",
    "gradient_norm", "steps_per_second", "success", "success_low", "success_high",
)  # fmt: skip


class Watched:
    """What a page shows of a run, see server.Shows.   about: plain values: "folder", "world", "latent_dim".

    row, plans, note: for the thread that trains.
    """

    page = "training.html"

    def __init__(self, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self.publish: Callable[[dict[str, Any]], None] = lambda message: None
        self.viewers, self._about = 0, dict(about)
        self._rows = [_shown(row) for row in rows]

    def start(self) -> None:
        self.publish({"kind": "run", **self._about})
        self._publish_rows()

    def close(self) -> None:
        pass

    def order(self, order: Any) -> bool:
        return True  # there is nothing to order; "hello" comes with every tab

    def downloads(self) -> dict[str, Callable[[], tuple[bytes, str]]]:
        return {}

    def after(self, log: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
        """`log`, and then `row`."""

        def both(row: dict[str, Any]) -> None:
            log(row)
            self.row(row)

        return both

    def row(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl."""
        self._rows.append(_shown(row))
        if len(self._rows) > MOST_ROWS:
            self._rows = [each for i, each in enumerate(self._rows) if i % 2 or "success" in each]
        self._publish_rows()

    def plans(self, clips: Sequence[Clip], success: float) -> None:
        """The newest plans to validation goals, and the share of these that were reached."""
        with tempfile.TemporaryDirectory() as folder:
            frames = video.held(video.tiled_frames(clips, panel=PANEL), int(FPS))
            data = video.write_gif(Path(folder) / "plans.gif", frames, FPS, width=WIDTH).read_bytes()
        step = self._rows[-1].get("step", 0) if self._rows else 0
        film = "data:image/gif;base64," + base64.b64encode(data).decode()
        self.publish({"kind": "plans", "step": step, "success": success, "film": film})

    def note(self, text: str) -> None:
        self.publish({"kind": "note", "text": text, "bad": False})

    def _publish_rows(self) -> None:
        self.publish({"kind": "rows", "rows": self._rows})


@contextmanager
def watched(folder: Path, model: WorldModel) -> Iterator[Watched]:
    """Serve the page of the run in this folder, which trains this model, until the block ends."""
    from .server import PageServer

    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    about: dict[str, Any] = {
        "folder": str(folder),
        "world": model.config.env,
        "parameters": f"{size:.1f}",
        "latent_dim": model.config.latent_dim,
    }
    shown = Watched(about, plots.read_rows(folder / "metrics.jsonl"))
    key = own_key()
    with ExitStack() as stack:
        try:
            server = stack.enter_context(in_a_thread(PageServer(shown, port=PORT, key=key), "page server"))
        except OSError:  # the port is in use
            server = stack.enter_context(in_a_thread(PageServer(shown, key=key), "page server"))
        log.info("watch it at %s", server.address)
        yield shown


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: row[name] for name in SHOWN if name in row}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
