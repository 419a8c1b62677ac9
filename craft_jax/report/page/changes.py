"""What two runs differ in, corruption by corruption: images gained and lost, and the difference."""

from craft_jax.report.page import spec


def figure(study, table):
    """The Figure of a comparison's table "corruptions" (`craft_jax.report.compare`)."""
    title = "Difference, and images gained and lost"
    if not table.rows:
        return spec.absent("changes", title, "; ".join(table.notes))
    rows = []
    for name, _, _, difference, low, high, gained, lost in table.rows:
        head = {"arm": study.arms[0], "corruption": name.replace("_", " ")}
        rows.append({**head, "kind": "change", "side": "gained", "value": gained})
        rows.append({**head, "kind": "change", "side": "lost", "value": -lost})
        rows.append({**head, "kind": "net", "value": difference, "low": low, "high": high})
    names = [name.replace("_", " ") for name, *_ in table.rows]
    y = spec.row(names, "corruption", labelFontSize=11)
    x = spec.quantity("value", "% of images; points")
    sides = {"domain": ["gained", "lost"], "range": ["var(--arm0)", "var(--arm1)"]}
    bars = {"field": "side", "type": "nominal", "scale": sides, "legend": None}
    shown = spec.tooltip(corruption=("corruption", ""), side=("images", ""), value=("%", "+.2f"))
    net = spec.tooltip(
        corruption=("corruption", ""),
        value=("difference", "+.2f"),
        low=("95% from", "+.2f"),
        high=("to", "+.2f"),
    )
    body = {
        "layer": [
            spec.layer(
                "change",
                {"type": "bar", "opacity": 0.55, "height": {"band": 0.7}},
                {"x": x, "y": y, "color": bars, "tooltip": shown},
            ),
            {"mark": {"type": "rule", "color": "var(--ink)"}, "encoding": {"x": {"datum": 0}}},
            spec.layer(
                "net",
                {"type": "rule", "strokeWidth": 2, "color": "var(--ink)"},
                {"x": spec.quantity("low", x["axis"]["title"]), "x2": {"field": "high"}, "y": y},
            ),
            spec.layer(
                "net",
                {"type": "point", "filled": True, "size": 50, "opacity": 1, "color": "var(--ink)"},
                {"x": x, "y": y, "tooltip": net},
            ),
        ]
    }
    alt = "Differences in accuracy, in points: " + ", ".join(f"{row[0]} {row[3]:+.1f}" for row in table.rows)
    says = (
        f"Bars: images that {study.arms[0]} gets right and {study.arms[1]} does not (to the right), and the "
        "reverse; points: the difference, with its 95% interval by bootstrap over images."
    )
    drawn = spec.chart(rows, body, {"step": 19}, alt)
    return spec.Figure("changes", title, says, drawn, alt, wide=True)
