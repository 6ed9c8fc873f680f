"""What pages are made of: one document that needs nothing from anywhere else, in light and dark, on paper too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = [
    "Section",
    "cards",
    "command",
    "details",
    "document",
    "facts",
    "figure",
    "ms",
    "note",
    "paragraph",
    "size",
    "table",
    "unit_for",
]

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--panel:#f5f7f9;--ink:#1d2530;--soft:#586474;--line:#dde2e8;--accent:#1f65a8;
--good:#1d7a46;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--paper:#14181d;--panel:#1c2229;--ink:#e5e9ee;--soft:#a3aebb;--line:#323b46;
--accent:#86bdf0;--good:#6fcf97;--bad:#ff8a80}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main,footer{max-width:62rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.5rem}
h1{font-size:1.9rem;line-height:1.25;margin:.1rem 0 .4rem;font-weight:650;overflow-wrap:anywhere}
h2{font-size:1.3rem;line-height:1.3;margin:0 0 .75rem;font-weight:620}
h3{font-size:1rem;margin:1.75rem 0 .5rem;font-weight:620}
p{margin:.5rem 0;max-width:46rem;overflow-wrap:anywhere}
.kind{color:var(--accent);font-weight:600;margin:0}
.soft,figcaption,footer{color:var(--soft)}
section{padding:1.75rem 0;border-top:1px solid var(--line)}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;margin:1rem 0 1.5rem;padding:0}
a{color:var(--accent);text-underline-offset:.2em}
a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:1rem 0 1.75rem}
.cards div{background:var(--panel);border-radius:.5rem;padding:.7rem .8rem}
.cards dt{color:var(--soft);font-size:.85rem;line-height:1.35}
.cards dd{margin:.15rem 0 0;font-size:1.2rem;font-weight:620;line-height:1.35;font-variant-numeric:tabular-nums}
.cards small{display:block;font-size:.8rem;font-weight:400;color:var(--soft);overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:minmax(8rem,13rem) 1fr;gap:.3rem 1.25rem;margin:.5rem 0}
.facts dt{color:var(--soft)}
.facts dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:.75rem 0}
table{border-collapse:collapse;font-size:.875rem;line-height:1.45;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding-bottom:.35rem}
td,th{padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap;
vertical-align:top}
thead th{color:var(--soft);font-weight:600}
tbody th{font-weight:400}
td.text,th.text{text-align:left;white-space:normal;min-width:5rem}
.long{overflow-wrap:anywhere;min-width:11rem}
figure{margin:1rem 0}
figcaption{font-size:.875rem;max-width:46rem;margin-bottom:-.5rem}
svg{display:block;width:100%;min-width:42rem;height:auto}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;margin:.4rem 0 0;padding:0;font-size:.85rem}
.legend i{display:inline-block;width:.75rem;height:.75rem;border-radius:2px;margin-right:.4rem}
code{font:.875em/1.5 ui-monospace,"SF Mono",Menlo,Consolas,monospace;overflow-wrap:anywhere}
pre{background:var(--panel);border-radius:.5rem;padding:.6rem .9rem;margin:.4rem 0;white-space:pre-wrap}
summary{cursor:pointer;color:var(--accent)}
.good{color:var(--good)}.bad{color:var(--bad)}
.note{border-left:3px solid var(--line);padding-left:1rem;margin:1rem 0}
.note h3{margin:0 0 .25rem}
footer{font-size:.875rem;padding-bottom:2.5rem;border-top:1px solid var(--line);padding-top:1rem}
@media(max-width:34rem){.facts{grid-template-columns:1fr;gap:0}.facts dd{margin-bottom:.5rem}h1{font-size:1.5rem}}
@media print{:root{color-scheme:light;--paper:#fff;--panel:#f5f7f9;--ink:#000;--soft:#444;--line:#ccc;--accent:#000}
body{font-size:10.5pt}nav{display:none}header{padding-top:0}
header,main,footer{max-width:none;padding-left:0;padding-right:0}
section{padding:1rem 0}.scroll{overflow:visible}svg{min-width:0}
figure,.cards,.note,tr{break-inside:avoid}h2,h3{break-after:avoid}
@page{margin:14mm}td,th{white-space:normal;font-size:8pt}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

_LONG = 24
"""Letters in a row, after which a word in a table may be broken."""


@dataclass(frozen=True)
class Section:
    """A part of a page: ``name`` is its anchor, ``parts`` are HTML."""

    name: str
    title: str
    parts: Sequence[str]


def document(kind: str, title: str, lead: str, summary: str, sections: Sequence[Section], end: str) -> str:
    """The page as text: ``summary`` is HTML and stands before the sections; all else is text."""
    links = "".join(f'<li><a href="#{one.name}">{escape(one.title)}</a></li>' for one in sections)
    body = "".join(
        f'<section id="{one.name}" aria-labelledby="{one.name}-title">'
        f'<h2 id="{one.name}-title">{escape(one.title)}</h2>{"".join(one.parts)}</section>'
        for one in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(kind)}: {escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<header><p class="kind">{escape(kind)}</p><h1>{escape(title)}</h1><p class="soft">{escape(lead)}</p></header>'
        f'<main>{summary}<nav aria-label="Contents"><ul>{links}</ul></nav>{body}</main>'
        f"<footer><p>{escape(end)}</p></footer></body></html>\n"
    )


def cards(rows: Iterable[tuple[str, str, str]]) -> str:
    """Figures to see first: what each is, the figure, and a remark."""
    made = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(remark)}</small></dd></div>"
        for name, value, remark in rows
    )
    return f'<dl class="cards">{"".join(made)}</dl>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, below each other."""
    return (
        f'<dl class="facts">{"".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)}</dl>'
    )


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """A table; the columns with an index in ``text`` are words, the others figures.  The first names the row."""

    def cells(row: Sequence[str]) -> str:
        made = []
        for index, cell in enumerate(row):
            long = " long" if max(map(len, cell.split()), default=0) > _LONG else ""
            kind = f' class="text{long}"' if index in text else ""
            tag, scope = ("td", "") if index else ("th", ' scope="row"')
            made.append(f"<{tag}{scope}{kind}>{escape(cell)}</{tag}>")
        return "".join(made)

    top = "".join(
        f'<th scope="col"{" class=text" if index in text else ""}>{escape(name)}</th>'
        for index, name in enumerate(head)
    )
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    return _scroll(
        title,
        f"<table><caption>{escape(title)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>",
    )


def figure(title: str, plot: str, legend: Mapping[str, str] | None = None) -> str:
    """A plot with what it shows, and names with their colors."""
    names = "".join(
        f'<li><i style="background:{color}"></i>{escape(name)}</li>' for name, color in (legend or {}).items()
    )
    keys = f'<ul class="legend">{names}</ul>' if names else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{_scroll(title, plot)}{keys}</figure>"


def details(title: str, *parts: str) -> str:
    """What few will read: closed at first."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def paragraph(text: str, kind: str = "") -> str:
    """Text; what stands between backticks is code."""
    shown = "".join(
        f"<code>{escape(part)}</code>" if index % 2 else escape(part) for index, part in enumerate(text.split("`"))
    )
    return f'<p class="{kind}">{shown}</p>' if kind else f"<p>{shown}</p>"


def note(title: str, *texts: str) -> str:
    """Sentences that belong together, set off."""
    return f'<div class="note">{paragraph(title).replace("p>", "h3>")}{"".join(map(paragraph, texts))}</div>'


def command(text: str) -> str:
    """A line to type."""
    return f"<pre><code>{escape(text)}</code></pre>"


def ms(seconds: float) -> str:
    """Milliseconds, to three figures at least."""
    value = seconds * 1e3
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def unit_for(count: int) -> tuple[str, int]:
    """The unit that a number of bytes is shown in, and its bytes."""
    return ("MiB", 1 << 20) if count >= 1 << 20 else ("KiB", 1 << 10)


def size(count: int) -> str:
    """A number of bytes with its unit."""
    name, unit = unit_for(count)
    return f"{count / unit:.1f} {name}"


def _scroll(title: str, content: str) -> str:
    """Where it is wider than the window, it alone is moved, by keys too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(title)}">{content}</div>'
