"""Images that one student gets right and another does not, and the reverse, as a picture."""

import base64
import io

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from craft_jax import corruptions, data, files
from craft_jax.config import tree
from craft_jax.errors import CraftError
from craft_jax.evaluation import targets
from craft_jax.evaluation.images import corruption_keys
from craft_jax.report import comparisons, measures, pairs
from craft_jax.report.page import spec
from craft_jax.report.studies import Comparison

NAME, TITLE = "images", "Images gained and lost"
_CORRUPTIONS, _EACH = 4, 2  # shown, and images of each
_SIDE, _GAP, _LINE = 96, 6, 14  # pixels
_LETTERS = 19  # that fit below an image


def of_study(study):
    """Of the most robust arm against the baseline: a spec.Picture, or the Figure that is absent."""
    others = {arm: _robust(study, arm) for arm in study.arms if arm != study.baseline}
    others = {arm: mean for arm, mean in others.items() if mean is not None}
    if not study.baseline or not others:
        return spec.absent(NAME, TITLE, "needs a baseline and another arm with runs that are done")
    best = max(others, key=others.get)
    matched = pairs.match(study, Comparison(best, study.baseline, "robust"))
    if not matched.runs:
        return spec.absent(
            NAME, TITLE, f"{best} and {study.baseline} have no pair: {'; '.join(matched.refused)}"
        )
    return of_runs(*matched.runs[0])


def _robust(study, arm):
    values = [measures.value(run.result, "robust") for run in study.counted(arm)]
    return np.mean(values) if values and None not in values else None


def of_runs(ours, theirs):
    """The picture of two runs; likewise. It is absent where they were not measured alike.

    Args:
      ours, theirs: studies.Runs, whose results have per-image correctness beside them.
    """
    if different := measures.differing(ours.result, theirs.result):
        return spec.absent(NAME, TITLE, f"not compared image by image: other {', '.join(different)}")
    try:
        right, why_not = comparisons.image_by_image((ours, theirs), "robust")
        if why_not:
            return spec.absent(NAME, TITLE, f"not compared image by image: {why_not}")
        changed = choose(*right)
        if not any(changed):
            return spec.absent(NAME, TITLE, "both students get the same images right")
        tiles = [_tiles(ours, rows) for rows in changed]
    except CraftError as error:
        return spec.absent(NAME, TITLE, f"not shown: {error}")
    names = f"{ours.arm} (seed {ours.result['seed']})", f"{theirs.arm} (seed {theirs.result['seed']})"
    heads = [f"right by {names[i]}, wrong by {names[1 - i]}" for i in (0, 1)]
    picture = _draw(list(zip(heads, tiles, strict=True)))
    names = dict.fromkeys(name for rows in changed for name, _, _ in rows)
    says = (
        f"{heads[0]}; below, the reverse. In each column the clean image above and its corrupted copy below; "
        f"under {', '.join(names)}, where most changed sides at this severity, the first such images of "
        "the data set: not chosen for their looks."
    )
    alt = f"{len(tiles[0])} images {heads[0]}, and {len(tiles[1])} images {heads[1]}."
    return spec.Picture(NAME, TITLE, says, picture, alt)


def choose(ours, theirs):
    """Which images to show: the first that changed sides, under the corruptions where most did.

    Args:
      ours, theirs: `correctness.read` of two networks on the same images.
    Returns:
      ([(corruption, severity, index)] right by ours alone, the same of theirs).
    """
    cells = [cell.split("/") for cell in ours if "/" in cell and cell in theirs]
    severities = sorted({int(severity) for _, severity in cells})
    middle = severities[(len(severities) - 1) // 2] if severities else 0
    at = {name: f"{name}/{severity}" for name, severity in cells if int(severity) == middle}
    changed = {name: int(np.sum(ours[cell] != theirs[cell])) for name, cell in at.items()}
    names = sorted(changed, key=changed.get, reverse=True)[:_CORRUPTIONS]
    found = []
    for first, second in ((ours, theirs), (theirs, ours)):
        used, rows = set(), []
        for name in names:
            there = np.flatnonzero(first[at[name]] & ~second[at[name]]).tolist()
            new = [i for i in there if i not in used][:_EACH]
            used.update(new)
            rows += [(name, middle, i) for i in new]
        found.append(rows)
    return tuple(found)


def _tiles(run, rows):
    """[(clean image, corrupted image, words)] of chosen images, as the run's evaluation made them."""
    config = tree.from_json(run.result["config"])
    if run.result["source"] != "regenerated":
        raise CraftError("its corrupted images are files")
    dataset = data.load(config)
    if changed := measures.changed_since(run.result, dataset):
        raise CraftError(f"its images cannot be made again, other {', '.join(changed)} now")
    images, labels = targets.clean_images(config, dataset, None, config.eval.split)
    tiles = []
    for name, severity, index in rows:
        keys = corruption_keys(name, severity, np.array([index]))
        seen = corruptions.corrupt(keys, jnp.float32(images[index : index + 1]) / 255, name, severity)
        called = f"image {index}, class {labels[index]}"
        if dataset.classes:
            called = f"{index}, {dataset.class_name(labels[index])}"[:_LETTERS]
        words = f"{name.replace('_', ' ')} {severity}", called
        tiles.append((images[index], np.uint8(np.rint(255 * np.asarray(seen[0]))), words))
    return tiles


def _draw(rows):
    """PNG, as bytes: a row of tiles under each heading."""
    columns = max(len(tiles) for _, tiles in rows)
    step = _SIDE + 4 * _GAP
    height = 2 * _SIDE + _GAP + 4 * _LINE + 3 * _GAP
    picture = Image.new("RGB", (columns * step + _GAP, len(rows) * height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=11)
    for i, (heading, tiles) in enumerate(rows):
        top = i * height + _GAP
        draw.text((_GAP, top), heading if tiles else f"none {heading}", "black", font)
        for column, (clean, corrupted, words) in enumerate(tiles):
            left = _GAP + column * step
            for k, image in enumerate((clean, corrupted)):
                place = (left, top + _LINE + _GAP + k * (_SIDE + 2))
                picture.paste(Image.fromarray(image).resize((_SIDE, _SIDE), Image.NEAREST), place)
            for k, text in enumerate(words):
                draw.text((left, top + 2 * _SIDE + 2 * _GAP + (k + 1) * _LINE), text, "gray", font)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def size(picture):
    """(width, height) of a spec.Picture, in pixels."""
    return Image.open(io.BytesIO(picture.png)).size


def data_url(picture):
    """A spec.Picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"


def write(folder, picture):
    """Write NAME.png of a spec.Picture, and NAME.svg with it inside."""
    files.check_writable(folder)
    width, height = size(picture)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<image width="{width}" height="{height}" href="{data_url(picture)}"/></svg>\n'
    )
    for suffix, content in (("png", picture.png), ("svg", svg.encode())):
        with files.whole(folder / f"{picture.name}.{suffix}") as temporary:
            temporary.write_bytes(content)
