"""The rows of a run, sent to wandb. Whatever wandb does the run goes on: metrics.jsonl has them too."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latent_planner.common.files import blame, refuse_links
from latent_planner.common.printable import printable

log = logging.getLogger(__name__)

MODES = ("auto", "online", "offline", "disabled")


# Links that wandb itself makes and replaces, in its folder and in a run's; it writes through no others.
OWN_LINKS = {"latest-run", "debug.log", "debug-internal.log", "debug-core.log"}
OWN_LINKS_OF_RUN = {"debug-core.log"}


def refuse_planted_links(folder: Path) -> None:
    """OSError when wandb's folder is a link, or holds links that are not wandb's own."""
    refuse_links(folder.parent, [folder.name])
    for path, folders, names in os.walk(folder):
        own = OWN_LINKS if Path(path) == folder else OWN_LINKS_OF_RUN
        refuse_links(path, {*folders, *names} - own)


class Tracker:
    """A wandb run while it is entered.

    folder: of the run; its name is the wandb run's name and id, so that a resumed run goes on there too.
    mode: one of MODES; auto is what the variable WANDB_MODE says, else online where the user has logged in,
    else offline.   settings: plain values, shown beside the run.
    """

    def __init__(self, folder: Path, *, mode: str, project: str, settings: Mapping[str, Any]) -> None:
        self.folder, self.mode, self.project, self.settings = folder, mode, project, dict(settings)
        self.run: Any = None

    def __enter__(self) -> Tracker:
        wanted = os.environ.get("WANDB_MODE", "auto") if self.mode == "auto" else self.mode
        if wanted != "disabled":
            try:
                self.run = self._start(wanted)
            except Exception as error:
                self._give_up(error)
        return self

    def _start(self, mode: str) -> Any:
        refuse_planted_links(self.folder / "wandb")
        wandb = _own_settings()
        try:
            if mode == "auto":
                mode = "online" if wandb.login(prompt=False, verify=True) else "offline"
            if mode == "online":
                return self._init(wandb, mode)
        except Exception as error:
            log.warning(
                "wandb cannot be reached (%s): the run is written to %s; `wandb sync` sends it later",
                _reason(error), self.folder / "wandb",
            )  # fmt: skip
            wandb.teardown()  # it believes that the run's name is in use
            wandb, mode = _own_settings(), "offline"
        return self._init(wandb, mode)

    def _init(self, wandb: Any, mode: Any) -> Any:
        return wandb.init(
            project=self.project,
            name=self.folder.name,
            id=self.folder.name,
            resume="allow",
            dir=str(self.folder.absolute()),
            config=self.settings,
            mode=mode,
            settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        )

    def log(self, row: Mapping[str, Any]) -> None:
        """Send one row of metrics.jsonl."""
        if self.run is not None:
            try:
                self.run.log(dict(row), step=row["step"])
            except Exception as error:
                self._give_up(error)

    def show(self, pictures: Mapping[str, tuple[bytes, str]]) -> None:
        """Send pictures and films, {name: (bytes, media type)}: PNG, WebP or MP4."""
        if self.run is None or not pictures:
            return
        try:
            import wandb

            with tempfile.TemporaryDirectory() as folder:
                shown: dict[str, Any] = {}
                for index, (name, (data, kind)) in enumerate(pictures.items()):
                    path = Path(folder) / f"{index}.{kind.rpartition('/')[2]}"
                    path.write_bytes(data)
                    film = kind.startswith("video")
                    shown[name] = wandb.Video(str(path), format="mp4") if film else wandb.Image(str(path))
                self.run.log(shown)
        except Exception as error:
            self._give_up(error)

    def __exit__(self, *exception: object) -> None:
        if self.run is not None:
            try:
                self.run.finish(exit_code=int(exception[0] is not None))
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.run = None
        where = self.folder / "metrics.jsonl"
        log.warning("wandb is off (%s); every number is in %s", _reason(error), where)


def _own_settings() -> Any:
    """wandb, with none of the settings of the current folder, and the address that the environment says.

    ./wandb/settings may come with a folder that somebody else made, and could send the user's key elsewhere.
    Without WANDB_BASE_URL the address is wandb's own, whatever any file says.
    """
    import wandb

    here = os.getcwd()
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)  # wandb looks for its settings where it is first set up
        try:
            os.environ.setdefault("WANDB_BASE_URL", wandb.Settings().base_url)
            wandb.setup(wandb.Settings(silent=True))
        finally:
            os.chdir(here)
    return wandb


def _reason(error: Exception) -> str:
    return printable(" ".join((blame(error) if isinstance(error, OSError) else str(error)).split()))
