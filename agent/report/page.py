"""The report as one HTML file: nothing is loaded from anywhere else, and nothing in it runs.

Charts are SVG inside the page, so that their ink follows the page's, light or dark; pictures are PNG, films
MP4 (or animated WebP where PyAV has no H.264), both inside the file too.
"""

from __future__ import annotations

import base64
import html
import io
import re
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from ..evaluation import video
from ..evaluation.plots import as_written
from . import charts
from .build import Entry, Report
from .section import Film, Shown, Table

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
SIGNS = {
    "good": ("✓", "good"),
    "poor": ("✗", "poor"),
    "skipped": ("–", "not measured"),
    "broken": ("!", "broke"),
}
PAPER = "#ffffff"


def page(report: Report) -> str:
    """The whole HTML document."""
    about = report.about
    title = f"What the {about['env']} model knows"
    style = resources.files("latent_planner.report").joinpath("page.css").read_text(encoding="utf-8")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<link rel="icon" href="data:,">',
        f"<title>{_text(title)}</title><style>{style}</style></head><body><main>",
        f"<header><h1>{_text(title)}</h1><p class=about>{_text(_told(about))}</p></header>",
        _summary(report.entries),
        *(_section(entry) for entry in report.entries),
        _footer(report),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def pictures(report: Report) -> dict[str, tuple[bytes, str]]:
    """{"report/SECTION/TITLE": (bytes, media type)} of all figures but tables, as a tracker takes them."""
    found = {}
    for entry in report.entries:
        for shown in entry.shown:
            name = f"report/{entry.section.name}/{shown.title}"
            if isinstance(shown.content, Film):
                found[name] = film(shown.content)
            elif not isinstance(shown.content, Table):
                found[name] = png(shown.content), "image/png"
    return found


def png(content: Figure | np.ndarray) -> bytes:
    """A chart or a picture as PNG."""
    held = io.BytesIO()
    if isinstance(content, Figure):
        FigureCanvasAgg(content)
        as_written(content)
        content.savefig(held, format="png", dpi=110, facecolor=PAPER)
    else:
        Image.fromarray(content).save(held, format="PNG", optimize=True)
    return held.getvalue()


def film(content: Film) -> tuple[bytes, str]:
    """The film's bytes and their media type."""
    if video.encoder() == "mpeg4":  # which browsers do not play
        held, frames = io.BytesIO(), [Image.fromarray(frame) for frame in content.frames]
        span = round(1000 / content.fps)
        frames[0].save(held, format="WebP", save_all=True, append_images=frames[1:], duration=span, loop=0)
        return held.getvalue(), "image/webp"
    with tempfile.TemporaryDirectory() as folder:
        path = video.write_video(Path(folder) / "film.mp4", content.frames, content.fps)
        return path.read_bytes(), "video/mp4"


def svg(figure: Figure) -> str:
    """The chart as SVG to stand inside a page; its ink and grey are those of the page."""
    held = io.StringIO()
    FigureCanvasSVG(figure)
    as_written(figure)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "sans-serif"}):
        figure.savefig(held, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = held.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px sans-serif", text)
    for colour, name in ((charts.INK, "ink"), (charts.GREY, "grey")):
        text = text.replace(colour, f"var(--{name})")
    return re.sub(r"\n\s*", "\n", text).strip()


def _told(about: dict[str, Any]) -> str:
    when = about["date"][:10]
    return f"checkpoint {about['checkpoint']} · {about['recording']} · {when} · {about['machine']['cpu']}"


def _summary(entries: Sequence[Entry]) -> str:
    """A line for each section: its verdict, and what was found."""
    rows = []
    for entry in entries:
        sign, word = SIGNS[entry.verdict]
        rows.append(
            f'<li class={entry.verdict}><a href="#{entry.section.name}"><b class=sign>{sign}</b><span>'
            f"<b>{_text(entry.section.title)}</b> <i>{word}</i><br>{_text(entry.sentence)}</span></a></li>"
        )
    return f"<nav aria-label=Sections><ol>{''.join(rows)}</ol></nav>"


def _section(entry: Entry) -> str:
    sign, word = SIGNS[entry.verdict]
    figures = "".join(_figure(shown) for shown in entry.shown)
    return (
        f'<section id="{entry.section.name}" class={entry.verdict}>'
        f"<h2>{_text(entry.section.title)} <span class=verdict>{sign} {word}</span></h2>"
        f"<p class=measures>{_text(entry.section.measures)}</p>"
        f"<p class=finding>{_text(entry.sentence)}</p><div class=figures>{figures}</div></section>"
    )


def _figure(shown: Shown) -> str:
    content, label = shown.content, html.escape(shown.title, quote=True)
    if isinstance(content, Table):
        inside = _table(content)
    elif isinstance(content, Figure):
        drawn = svg(content).replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
        inside = (
            f'<div class=scroll tabindex=0 role=group aria-label="{label}">{drawn}</div>'
            if shown.wide
            else drawn
        )
    elif isinstance(content, Film):
        data, kind = film(content)
        source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        poster = base64.b64encode(png(content.frames[0])).decode()
        options = f'controls muted loop playsinline aria-label="{label}"'
        inside = f'<video {options} poster="data:image/png;base64,{poster}" src="{source}"></video>'
        if kind.startswith("image"):
            inside = f'<img alt="{label}" src="{source}">'
    else:
        source = base64.b64encode(png(content)).decode()
        inside = f'<img alt="{label}" src="data:image/png;base64,{source}">'
    kind = type(content).__name__.lower() + (" wide" if shown.wide else "")
    return (
        f'<figure class="{kind}"><figcaption><b>{_text(shown.title)}</b> {_text(shown.caption)}</figcaption>'
        f"{inside}</figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th scope=col>{_text(text)}</th>" for text in table.head)
    rows = "".join(
        f"<tr><th scope=row>{_text(row[0])}</th>{''.join(f'<td>{_text(text)}</td>' for text in row[1:])}</tr>"
        for row in table.rows
    )
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<div class=scroll tabindex=0 role=group aria-label=Table>{body}</div>"


def _footer(report: Report) -> str:
    about = report.about
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    machine = about["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}, {machine['system']}"
    took = ", ".join(f"{entry.section.name} {entry.seconds:.0f} s" for entry in report.entries)
    return (
        f"<footer><p>{_text(about['command'])}</p><p>{_text(where)}; {_text(versions)}; weights "
        f"{_text(about['sha256'][:12])}</p><p>{_text(took)}. Every number is in report.json.</p></footer>"
    )


def _text(text: str) -> str:
    return html.escape(str(text), quote=False)
