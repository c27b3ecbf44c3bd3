"""Pictures on their way to the page, and from it."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from latent_planner import goal_image
from latent_planner.common.files import write_bytes
from latent_planner.goal_image import GoalImageError, GoalText

SCENE_SIZE = 384  # px of what people see
QUICK = 1  # zlib's level: large flat areas are small anyway


def png(pixels: np.ndarray) -> str:
    """uint8 (H, W, 3), or (H, W, 4) with alpha, as an address that holds the picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=QUICK)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def read(data: bytes) -> tuple[np.ndarray, GoalText | None]:
    """The picture in these bytes of a file, uint8 (H, W, 3), and what it says of itself. GoalImageError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        write_bytes(path, data)
        try:
            return goal_image.read_goal(path), goal_image.read_goal_text(path)
        except GoalImageError as error:
            raise GoalImageError(str(error).replace(str(path), "The picture")) from None


def goal_file(pixels: np.ndarray, state: np.ndarray | None, start: np.ndarray, env: str) -> bytes:
    """The goal as a PNG file for `plan.py --goal`, which carries the states that are known."""
    if state is None:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        path = goal_image.write_goal(Path(folder) / "goal.png", pixels, state, env, start_state=start)
        return path.read_bytes()
