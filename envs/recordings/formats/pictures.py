"""A column of encoded pictures (JPEG, PNG, …), decoded when they are read."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from ..columns import usable_cpus
from ..journal import RecordingError
from .border import reason
from .video import MAX_PIXELS, leaving_out

KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


class Source(Protocol):
    """Where the pictures' bytes are."""

    def read(self, wanted: np.ndarray) -> list[bytes]:
        """The bytes of these pictures (n,)."""

    def where(self, row: int) -> str:
        """What a message calls a picture."""


class Pictures:
    """A column of frames, uint8 (N, H, W, 3).   episodes: (N,) the row's episode, for messages."""

    def __init__(self, source: Source, episodes: np.ndarray) -> None:
        self.source, self.episodes = source, episodes
        first = self._decoded(0, source.read(np.zeros(1, np.int64))[0])
        self.shape: tuple[int, ...] = (len(episodes), *first.shape)
        self.dtype = np.dtype(np.uint8)

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` (n, H, W, 3) with the given rows (n,)."""

        def fill(place: int, blob: bytes) -> None:
            picture = self._decoded(int(rows[place]), blob)
            if picture.shape != self.shape[1:]:
                raise RecordingError(
                    f"{self.source.where(int(rows[place]))} has a picture of another size than the first one"
                )
            out[place] = picture

        for first in range(0, len(rows), 256):
            blobs = self.source.read(rows[first : first + 256])
            if len(blobs) < 8 or usable_cpus() == 1:
                for place, blob in enumerate(blobs, first):
                    fill(place, blob)
                continue
            with ThreadPoolExecutor(usable_cpus()) as pool:
                list(pool.map(fill, range(first, first + len(blobs)), blobs))

    def _decoded(self, row: int, blob: bytes) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(blob), formats=KINDS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"it has {image.width} x {image.height} px")
                return np.array(ImageOps.exif_transpose(image).convert("RGB"))
        except Exception as error:
            raise RecordingError(
                f"{self.source.where(row)} has a picture that cannot be read ({reason(error)}): copy it "
                f"again, {leaving_out(int(self.episodes[row]))}"
            ) from error
