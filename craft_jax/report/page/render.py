"""Figures as files, and the library that the page draws them with: by `vl_convert`, without a browser."""

import functools
import importlib.util
import json
from pathlib import Path

from craft_jax import files
from craft_jax.report.page import spec

INSTALL = "pip install -r requirements-report.txt"
_VEGA_LITE = "6.1"


def is_there():
    """Whether the package is installed that only the page and its figures need."""
    return importlib.util.find_spec("vl_convert") is not None


@functools.cache
def library():
    """JavaScript, 0.9 MB: the function `vegaEmbed`, with Vega and Vega-Lite in it."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", _VEGA_LITE)


def write(folder, figures):
    """Write NAME.svg and NAME.png of each figure, light, with a key of arms that nothing else names.

    Args:
      folder: made if there is none.
      figures: spec.Figures; those that show nothing are left out.
    Raises:
      CheckpointError: nothing can be written there.
    """
    import vl_convert

    files.check_writable(folder)
    for figure in figures:
        if figure.spec is None:
            continue
        drawn = _on_paper(figure.spec)
        svg = vl_convert.vegalite_to_svg(drawn, vl_version=_VEGA_LITE)
        for suffix, content in (("svg", svg.encode()), ("png", vl_convert.svg_to_png(svg, scale=2))):
            with files.whole(Path(folder, f"{figure.name}.{suffix}")) as temporary:
                temporary.write_bytes(content)


def _on_paper(drawn):
    """A specification for a file: of a fixed width, and with colours for what the page has names."""
    drawn = json.loads(json.dumps(drawn))
    drawn["config"] = {**spec.CONFIG, "background": "var(--paper)", "padding": 12}
    if drawn.get("usermeta", {}).get("key"):
        _show_keys(drawn)
    text = json.dumps(drawn)
    for name, colour in spec.LIGHT.items():
        text = text.replace(f"var(--{name})", colour)
    return text


def _show_keys(node):
    """A legend wherever an arm has a colour, a shape or a dash: on the page one key serves all figures."""
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        if isinstance(value, dict) and value.get("field") == "arm" and "legend" in value:
            value["legend"] = {"title": None, "orient": "bottom", "columns": 5, "symbolOpacity": 1}
        _show_keys(value)
