"""The key in the page's address: nobody can guess it, and it stays, so an open tab finds its way back."""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
from pathlib import Path

from latent_planner.common.files import beside, is_link, read_bytes

from ..overrides import ConfigError

log = logging.getLogger(__name__)

VARIABLE = "LATENT_PLANNER_PLAY_KEY"
FORM = r"[A-Za-z0-9_-]{16,100}"


def own_key() -> str:
    """The one of the environment, else the one that this user has kept, else a new one, which is kept.

    ConfigError for one of the environment that can be guessed.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        return _kept(_folder() / "play-key")
    if not re.fullmatch(FORM, given):
        raise ConfigError(f"{VARIABLE} must be 16 to 100 letters and digits that nobody can guess")
    return given


def _folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(state) / "latent-planner"


def _kept(path: Path) -> str:
    """The key in this file, which only its user may read; a new one where there is none such."""
    try:
        if not is_link(path) and not stat.S_IMODE(path.stat().st_mode) & 0o077:
            found = read_bytes(path, 200).decode("ascii", "replace").strip()
            if re.fullmatch(FORM, found):
                return found
    except OSError:
        pass
    key = secrets.token_urlsafe(18)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path) as temporary:
            temporary.chmod(0o600)
            temporary.write_text(key + "\n", encoding="ascii")
    except OSError as error:
        log.info("the page's key is not kept (%s)", error)
    return key
