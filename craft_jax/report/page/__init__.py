"""A study as a page, OUT/index.html, which needs no network; its figures as SVG and PNG beside it.

A figure is a Vega-Lite specification, written once: the page draws it with the library inlined (with hover,
and arms hidden everywhere at once), and `vl_convert` draws the same for the files, without a browser. Colours
are names of CSS variables in it, which the page fills for a light or a dark screen and for paper.
"""
