"""The HTML of the page: escaped text, tables and places for figures; nothing is fetched."""

import json
import re
import textwrap
from html import escape
from pathlib import Path

from craft_jax.report.page import spec

_HERE = Path(__file__).parent
# Vega compiles a figure's expressions with `Function`; nothing else may run, and nothing is loaded.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"
)
_MEAN = re.compile(r"^(\S+) \((\S+)\) (\[.*\])$")
_NUMBER = re.compile(r"^[-+<]?[\d.,e+-]+( \(.*)?$")


def page(title, articles, library):
    """The whole page.

    Args:
      title: of the window, plain text.
      articles: [(html, {figure's id: spec})], one a study, from `article`.
      library: JavaScript, from `render.library`.
    """
    figures = {name: drawn for _, own in articles for name, drawn in own.items()}
    data = _as_data({"config": spec.CONFIG, "figures": figures})
    style = _variables() + (_HERE / "page.css").read_text(encoding="utf-8")
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<button id="theme" type="button" aria-label="light or dark">light / dark</button>
<noscript><p class="missing">Figures and controls need JavaScript; figures/ has them too.</p></noscript>
{"".join(html for html, _ in articles)}
<div id="tip" role="status" hidden></div>
<script type="application/json" id="data">{data}</script>
<script>{_as_script(library)}</script>
<script>{script}</script>
</body>
</html>
"""


def _as_data(tree):
    """JSON that no text in it can end the script element of."""
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _as_script(text):
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _variables():
    def named(colours):
        return "".join(f"--{name}:{value};" for name, value in colours.items())

    light, dark = named(spec.LIGHT), named(spec.DARK)
    return (
        f":root{{{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f"@media screen{{:root[data-theme=dark]{{{dark}}}}}\n"
    )


def article(key, head, lines, marks, arms, sections):
    """A study: its head, the key of its arms, and sections.

    Args:
      key: what ids begin with, letters and digits.
      head: its title.
      lines: of text below that; blank lines part a text's paragraphs.
      marks: short texts that a reader must not miss.
      arms: names.
      sections: [(title, [html])].
    """
    ids = [f"{key}-{re.sub('[^a-z]+', '-', title.lower())}" for title, _ in sections]
    contents = "".join(f'<a href="#{i}">{escape(t)}</a>' for i, (t, _) in zip(ids, sections, strict=True))
    badges = "".join(f"<li>{escape(mark)}</li>" for mark in marks)
    body = "".join(
        f'<section id="{i}"><h2>{escape(title)}</h2><div class="grid">{"".join(parts)}</div></section>'
        for i, (title, parts) in zip(ids, sections, strict=True)
    )
    return f"""<article id="{key}">
<header><h1>{escape(head)}</h1>{"".join(map(_paragraphs, lines))}
<ul class="marks">{badges}</ul></header>
<div class="bar"><nav aria-label="sections">{contents}</nav>
<div class="arms" role="group" aria-label="arms that are shown">{_chips(arms)}
<button type="button" class="all" hidden>show all</button></div></div>
{body}
</article>
"""


def _paragraphs(text):
    """Paragraphs between blank lines; what is indented, as commands are in a docstring, keeps its lines."""
    return "".join(
        f"<pre>{escape(textwrap.dedent(part))}</pre>" if part.startswith("    ") else f"<p>{escape(part)}</p>"
        for part in text.split("\n\n")
    )


def _chips(arms):
    """A button an arm, with its line and point; pressed while it is shown."""
    return "".join(
        f'<button type="button" class="arm" aria-pressed="true" data-arm="{escape(arm)}">'
        f'<svg width="34" height="14" viewBox="0 0 34 14" aria-hidden="true" '
        f'style="color:var(--arm{i % spec.COLOURS})">'
        f'<line x1="0" y1="7" x2="34" y2="7" stroke="currentColor" stroke-width="2" '
        f'stroke-dasharray="{" ".join(map(str, spec.DASHES[i % len(spec.DASHES)]))}"/>'
        f'<path fill="currentColor" d="{_PATHS[spec.SHAPES[i % len(spec.SHAPES)]]}"/></svg>'
        f"{escape(arm)}</button>"
        for i, arm in enumerate(arms)
    )


_PATHS = {
    "circle": "M12 7a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
    "square": "M12.5 2.5h9v9h-9z",
    "diamond": "M17 1l5 6l-5 6l-5 -6z",
    "triangle-up": "M17 2l5.5 9.5h-11z",
    "cross": "M15.2 2h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z",
    "triangle-down": "M17 12l5.5 -9.5h-11z",
}


def figure(key, its, folder):
    """A place for a spec.Figure, with its heading, how to read it, and its files."""
    missing = f'<p class="missing">{escape(its.missing)}</p>' if its.missing else ""
    wide = " wide" if its.wide else ""
    head = f"<h3>{escape(its.title)}</h3>"
    if its.spec is None:
        return f'<figure class="absent" id="{key}-{its.name}">{head}{missing}</figure>'
    links = " ".join(
        f'<a href="{escape(folder)}/{its.name}.{kind}">{kind.upper()}</a>' for kind in ("svg", "png")
    )
    return (
        f'<figure class="figure{wide}" id="{key}-{its.name}">{head}'
        f'<div class="plot" role="img" aria-label="{escape(its.alt)}"></div>'
        f'<figcaption>{escape(its.says)} <span class="files">{links}</span></figcaption>{missing}</figure>'
    )


def picture(key, its, data_url, width, folder):
    """A spec.Picture, its pixels shown as they are."""
    links = " ".join(
        f'<a href="{escape(folder)}/{its.name}.{kind}">{kind.upper()}</a>' for kind in ("svg", "png")
    )
    return (
        f'<figure class="wide" id="{key}-{its.name}"><h3>{escape(its.title)}</h3>'
        f'<div class="pixels"><img alt="{escape(its.alt)}" src="{data_url}" width="{width}"></div>'
        f'<figcaption>{escape(its.says)} <span class="files">{links}</span></figcaption></figure>'
    )


def table(its, title, arms, folder):
    """A formats.Table that sorts, filters, and follows the arms that are shown."""
    head = "".join(
        '<th scope="col" aria-sort="none"><button type="button">'
        f"{escape(name.replace('_', ' '))}</button></th>"
        for name in its.header
    )
    body = "".join(_row(line, arms) for line in its.lines)
    links = " ".join(
        f'<a href="{escape(folder)}/{its.name}.{kind}">{name}</a>'
        for kind, name in (("csv", "CSV"), ("md", "Markdown"), ("tex", "LaTeX"))
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in its.notes)
    return (
        f'<div class="table"><h3>{escape(title)}</h3>'
        f'<label class="filter">filter <input type="search" aria-label="filter {escape(title)}"></label>'
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f'<details><summary>notes and origin <span class="files">{links}</span></summary>'
        f"<ul>{notes}</ul></details></div>"
    )


def _row(line, arms):
    of = json.dumps([cell for cell in line[:2] if cell in arms])
    return f'<tr data-arms="{escape(of)}">{"".join(map(_cell, line))}</tr>'


def _cell(text):
    if found := _MEAN.match(text):
        mean, sd, interval = map(escape, found.groups())
        return f'<td class="number"><b>{mean}</b><small>sd {sd}<br>{interval}</small></td>'
    number = ' class="number"' if _NUMBER.match(text) or text.startswith("[") else ""
    return f"<td{number}>{escape(text)}</td>"
