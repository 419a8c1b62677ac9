"""The parts that figures are made of: Vega-Lite, colours by the names of the page's CSS variables."""

from typing import NamedTuple

# Okabe and Ito's colours, told apart by all common kinds of colour vision, less the yellow, which is too
# pale on paper. An arm has a shape and a dash as well, for print in grey.
LIGHT = {
    **{"ink": "#1b1b1b", "soft": "#5f6368", "rule": "#dcdcdc", "paper": "#ffffff", "shade": "#f4f4f2"},
    **{"arm0": "#0072b2", "arm1": "#d55e00", "arm2": "#009e73", "arm3": "#cc79a7"},
    **{"arm4": "#e69f00", "arm5": "#56b4e9", "arm6": "#1b1b1b"},
}
DARK = {
    **{"ink": "#e8e8e6", "soft": "#a3a8ad", "rule": "#3a3d41", "paper": "#15171a", "shade": "#1e2125"},
    **{"arm0": "#2f8fd0", "arm1": "#e8702a", "arm2": "#18b388", "arm3": "#d98fb8"},
    **{"arm4": "#efb02e", "arm5": "#8accf2", "arm6": "#e8e8e6"},
}
COLOURS, SHAPES = 7, ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down")
DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2])
FONT = "Helvetica, Arial, Liberation Sans, sans-serif"
WIDTH = 640  # pixels, of a figure's file
CLOUD = 340  # pixels, the height of a cloud of points whose means are named

CONFIG = {
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        **{"labelColor": "var(--soft)", "titleColor": "var(--soft)", "titleFontWeight": "normal"},
        **{"gridColor": "var(--rule)", "domain": False, "ticks": False, "labelPadding": 6, "titlePadding": 8},
        **{"labelFontSize": 11, "titleFontSize": 11, "labelLimit": 150},
    },
    "header": {
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "labelFontWeight": "bold",
        "labelLimit": 200,
        "title": None,
    },
    "legend": {"labelColor": "var(--soft)", "titleColor": "var(--soft)", "titleFontWeight": "normal"},
    "text": {"color": "var(--ink)", "fontSize": 11},
    "rule": {"color": "var(--soft)"},
    "range": {"heatmap": {"scheme": "viridis"}},
}


class Figure(NamedTuple):
    """A figure of the page.

    Attributes:
      name: of its files.
      title, says: a heading, and lines on how to read it.
      spec: Vega-Lite; None where there is nothing to show.
      alt: what it shows, in words.
      missing: what is not there and how to get it; "" where nothing is missing.
      wide: whether it wants the page's whole width.
    """

    name: str
    title: str
    says: str
    spec: dict | None
    alt: str = ""
    missing: str = ""
    wide: bool = False


class Picture(NamedTuple):
    """A picture of pixels on the page.

    Attributes:
      name, title, says, alt: as of a Figure.
      png: its file's bytes.
    """

    name: str
    title: str
    says: str
    png: bytes
    alt: str


def absent(name, title, why):
    """The Figure that says in its place what is missing."""
    return Figure(name, title, "", None, missing=why)


def colour(arms):
    """The colour of each of the arms, by name; the same in every figure, whichever are hidden."""
    return _by_arm(arms, [f"var(--arm{i % COLOURS})" for i in range(len(arms))])


def shape(arms):
    """The shape of each arm's points."""
    return _by_arm(arms, [SHAPES[i % len(SHAPES)] for i in range(len(arms))])


def dash(arms):
    """The dashes of each arm's lines."""
    return _by_arm(arms, [DASHES[i % len(DASHES)] for i in range(len(arms))])


def _by_arm(arms, values):
    scale = {"domain": list(arms), "range": values}
    return {"field": "arm", "type": "nominal", "scale": scale, "legend": None}


def row(arms, field="arm", **more):
    """A row an arm, in their order."""
    axis = {"title": None, "grid": False, "labelColor": "var(--ink)", "labelFontSize": 12, **more}
    return {"field": field, "type": "nominal", "sort": list(arms), "axis": axis}


def quantity(field, title=None, **more):
    """A number along an axis that need not begin at 0."""
    scale = {"zero": False, "nice": True, **more.pop("scale", {})}
    axis = {"title": title, "tickCount": 5, **more.pop("axis", {})}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis, **more}


def tooltip(**fields):
    """What hovering shows, {field: (title, format or "")}."""
    shown = []
    for field, (title, form) in fields.items():
        kind = {"type": "quantitative", "format": form} if form else {"type": "nominal"}
        shown.append({"field": field, "title": title, **kind})
    return shown


def layer(kind, mark, encoding):
    """A layer of the values of one kind."""
    return {"transform": [{"filter": f"datum.kind === '{kind}'"}], "mark": mark, "encoding": encoding}


def chart(values, body, height=None, alt=""):
    """A figure as wide as the page gives it; arms that are hidden there are left out of it.

    Args:
      values: rows, each of an "arm", and maybe of a "baseline".
      body: {"layer": ...} or {"mark": ..., "encoding": ...}.
      height: pixels, or {"step": pixels a row}; None for Vega-Lite's own.
      alt: what it shows, in words.
    """
    return {
        **_head(values, alt),
        "width": WIDTH,
        **({"height": height} if height else {}),
        **body,
    }


def set_labels(rows, field):
    """Give the means among rows a "label_at" near their value, apart enough for names to be read."""
    means = sorted((row for row in rows if row["kind"] == "mean"), key=lambda row: row[field])
    values = [row[field] for row in rows]
    line = 13 / CLOUD * ((max(values) - min(values)) or 1)
    places = [row[field] for row in means]
    for _ in range(100):  # neighbours push each other away until all have a line
        for i in range(len(places) - 1):
            if (lacking := line - (places[i + 1] - places[i])) > 0:
                places[i], places[i + 1] = places[i] - lacking / 2, places[i + 1] + lacking / 2
    for row, place in zip(means, places, strict=True):
        row["label_at"] = place


def multiples(values, by, panels, body, height, least=150, alt="", scales=None, key=False):
    """Small multiples, in as many columns as the page's width allows.

    Args:
      values, body, height, alt: as for `chart`.
      by: the field whose values are the panels; panels: these, in order.
      least: pixels that a panel needs.
      scales: {"x" or "y": "independent"} where the panels do not share them.
      key: whether its file needs a key of the arms, since nothing else names them.
    """
    header = {"labelAnchor": "start"} if len(panels) > 1 else None
    field = {"field": by, "type": "nominal", "sort": list(panels), "header": header}
    columns = max(1, min(len(panels), WIDTH // least))
    return {
        **_head(values, alt),
        **{"facet": field, "columns": columns, "spacing": 18},
        "spec": {"width": WIDTH // columns - 40, "height": height, **body},
        "resolve": {"scale": scales or {}, "axis": dict.fromkeys(scales or {}, "independent")},
        "usermeta": {"panels": len(panels), "least": least, "key": key},
    }


def _head(values, alt):
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": alt,
        "data": {"values": values},
        "params": [{"name": "hidden", "value": []}],
        "transform": [{"filter": "indexof(hidden, datum.arm) < 0 && indexof(hidden, datum.baseline) < 0"}],
    }
