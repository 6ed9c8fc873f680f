"""What holds for every page that mace-cl writes, as far as it can be told without a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

HOSTILE = """</title></svg><script>alert("1")</script>'&\x01 onload=x"""
"""A name that would do harm in a page that does not escape it."""


class Reader(HTMLParser):
    """Elements in their order, and texts; asserts that elements are closed and nothing is fetched or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.said: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.names |= {value or "" for key, value in attrs if key == "id"}
        assert not [key for key, _ in attrs if key.startswith("on") or key in ("src", "srcset")]
        assert not [value for key, value in attrs if key == "href" and not (value or "").startswith("#")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def read_page(text: str) -> Reader:
    """The page, found to be whole, to ask for nothing, and to have proper plots."""
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(reader.seen)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert not re.search(r"url\(|@import", text)
    for svg in re.findall("<svg.*?</svg>", text.replace("\x01", "")):
        element = ElementTree.fromstring(svg)
        assert element.get("aria-label")
    assert text.count("<table>") == text.count("<caption>")
    return reader
