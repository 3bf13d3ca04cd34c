"""The report's page in a real browser: it draws, complains of nothing, and asks for nothing."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from browser import installed, visit
from report_documents import HOSTILE, document, profile

from edge_convert import page
from edge_convert.graph import Array

pytestmark = pytest.mark.skipif(installed() is None, reason="no chromium on this machine")


def written(folder: Path, text: str) -> Path:
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def with_probe(text: str) -> str:
    """The page with a script of ours that writes down what only a browser knows; its policy forbids one."""
    probe = """<script>
      const root = document.documentElement;
      root.dataset.sideways = root.scrollWidth > root.clientWidth;
      root.dataset.paper = getComputedStyle(document.body).backgroundColor;
      root.dataset.tops = [...document.querySelectorAll('h2')].map(h => getComputedStyle(h).fontSize)[0];
      root.dataset.tiny = [...document.querySelectorAll('svg.plot text')].filter(
        t => t.getBoundingClientRect().height < 9).length;
      root.dataset.drawn = [...document.querySelectorAll('svg.plot')].every(
        s => s.getBoundingClientRect().height > 50);
      root.dataset.pictures = [...document.images].every(i => i.complete && i.naturalWidth > 0);
    </script>"""
    without = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    return without.replace("</body>", probe + "</body>")


def pixels(shot: Path) -> Array:
    """The picture of a page, [rows, columns, channels]; browsers write 8 bits, filters 0 to 4 of PNG."""
    content = shot.read_bytes()
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    channels = {2: 3, 6: 4}[content[25]]
    data, at = b"", 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] == b"IDAT":
            data += content[at + 8 : at + 8 + size]
        at += size + 12
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + width * channels)


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_drawn_as_it_stands_without_a_complaint_or_a_request(tmp_path: Path, dark: bool) -> None:
    seen = visit(
        written(tmp_path, page.render(document("word", profile(), profile("b")))), tmp_path, dark=dark
    )
    assert seen.complaints == ()
    assert seen.requests == ()
    assert "Converted for all 2 profiles" in seen.dom
    assert len(np.unique(pixels(tmp_path / "shot.png"))) > 50  # something is drawn


def test_names_that_want_to_be_markup_run_nothing(tmp_path: Path) -> None:
    seen = visit(written(tmp_path, page.render(document(HOSTILE, profile(word=HOSTILE)))), tmp_path)
    assert seen.complaints == ()  # a script that the policy stopped would be one
    assert seen.requests == ()
    assert "<script" not in seen.dom


def test_complaints_and_requests_would_be_seen(tmp_path: Path) -> None:
    """The other way round: a page that asks for something is found out by the same eyes."""
    asking = page.render(document()).replace("</body>", '<img src="http://127.0.0.1:9/x.png"></body>')
    stopped = visit(written(tmp_path, asking), tmp_path)
    assert any("Content Security Policy" in line for line in stopped.complaints)
    assert stopped.requests == ()  # the policy holds
    unprotected = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", asking)
    (tmp_path / "again").mkdir()
    assert visit(written(tmp_path, unprotected), tmp_path / "again").requests == ("http://127.0.0.1:9/x.png",)


@pytest.mark.parametrize("width", [500, 1200])  # chromium's windows are no narrower than 500
def test_the_page_fits_the_width_and_its_plots_can_be_read(tmp_path: Path, width: int) -> None:
    seen = visit(written(tmp_path, with_probe(page.render(document()))), tmp_path, width)
    assert 'data-sideways="false"' in seen.dom
    assert 'data-drawn="true"' in seen.dom
    assert 'data-pictures="true"' in seen.dom
    assert 'data-tiny="0"' in seen.dom


def test_dark_and_light_follow_the_reader(tmp_path: Path) -> None:
    papers = []
    for dark in (False, True):
        folder = tmp_path / str(dark)
        folder.mkdir()
        seen = visit(written(folder, with_probe(page.render(document()))), folder, dark=dark)
        papers += re.findall(r'data-paper="rgb\((\d+),', seen.dom)
    light, dark_paper = (int(red) for red in papers)
    assert dark_paper < 60 < 200 < light
