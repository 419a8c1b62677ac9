"""CIFAR-10-C-bar's ten corruptions as plain programs, as references.py has CIFAR-10-C's nineteen.

Each does in float64, pixel by pixel, what the released program (Mintun, Kirillov and Xie 2021) does with
square images of an even side, with SciPy where that has SciPy; its settings are written down once more.
"""

import math

import numpy as np
from scipy import ndimage

from tests.corruptions.references import Reference, nothing

BLUE = (-2.29, -2.08, -1.87, -1.45, -1.24)  # thresholds, in standard deviations
BROWN = (16, 25.6, 35.2, 41.6, 44.8)  # standard deviations, in levels
CUT = (0.1, 0.2, 0.3, 0.4, 0.5)  # shares of the dark squares
INVERSE = (0.13, 0.195, 0.325, 0.585, 0.65)  # exponents
TWIRL = ((0.32, 49.5), (0.34, 54), (0.36, 58.5), (0.44, 76.5), (0.5, 90))  # amount, degrees
RIPPLE = (0.01375, 0.015, 0.01625, 0.01875, 0.02)  # amplitudes, in sides
TURN = (4.2, 5.4, 6.6, 7.8, 9.0)  # degrees
LINES = (0.05, 0.1, 0.15, 0.2, 0.25)  # lines for a pixel of the side
SPARKLES = (0.007, 0.035, 0.056, 0.063, 0.07)  # radii, in sides
FRINGES = (0.05, 0.1, 0.25, 0.45, 0.5)  # the largest channel's zoom, less 1


def stored(levels):
    return np.clip(levels, 0, 255).astype(np.uint8)


# ---------------------------------------------------------------- noise


def phases(random, severity, shape):
    return (random.uniform(0, 2 * np.pi, (shape[0], shape[0] // 2)),)


def waves(half, amplitude):
    """The sum of all waves, by its definition, not by a fast transform."""
    size = len(half)
    whole = np.concatenate([half, half[::-1, ::-1]], 1)
    frequency = np.arange(size) - size // 2  # waves over the image
    along = np.exp(2j * np.pi * np.outer(np.arange(size), frequency) / size)
    each = amplitude(np.hypot(frequency[:, None], frequency)) * np.exp(1j * whole)
    noise = (along @ each @ along.T).real
    return noise / noise.std()


def blue_noise_sample(image, severity, half):
    mask = waves(half, lambda r: r) > BLUE[severity - 1]
    return image * mask[..., None].astype(np.uint8)


def three_phases(random, severity, shape):
    return (random.uniform(0, 2 * np.pi, (3, shape[0], shape[0] // 2)),)


def brownish_noise(image, severity, halves):
    noise = [waves(half, lambda r: 1 / (r**2 + 1)) for half in halves]
    return stored(image + BROWN[severity - 1] * np.stack(noise, 2))


# ---------------------------------------------------------------- drawn over the image


def board(random, severity, shape):
    size = random.uniform(0.1, 0.25) * shape[0]
    return random.uniform(0, 2 * np.pi), size, random.uniform(size=(29, 29))


def checkerboard_cutout(image, severity, angle, size, chance):
    out = image.copy()
    for y in range(len(image)):
        for x in range(len(image)):
            row = (math.cos(angle) * y + math.sin(angle) * x) / size
            column = (-math.sin(angle) * y + math.cos(angle) * x) / size
            dark = math.floor(row % 2) == math.floor(column % 2)
            if dark and chance[int(row), int(column)] < CUT[severity - 1]:
                out[y, x] = 128
    return out


def strokes(random, severity, shape):
    count = max(int(LINES[severity - 1] * shape[0]), 1)
    y, x = random.uniform(0, shape[0], (2, count))
    spread = random.uniform(0.1, 1)
    return y, x, random.uniform(0, 2 * np.pi) + 2 * np.pi * spread * random.uniform(-0.5, 0.5, count)


def lines(image, severity, y, x, angles):
    out, size = image.copy(), len(image)
    for row, column, angle in zip(y, x, angles, strict=True):
        down, right = size * math.cos(angle), size * math.sin(angle)
        first, last = (int(row - down), int(column - right)), (int(row + down), int(column + right))
        pixels = {place: light for place, light in walk(first, last) if 0 <= min(place) <= max(place) < size}
        for place, light in pixels.items():
            out[place] = light * out[place].astype(float) + (1 - light) * 128
    return out


def walk(first, last):
    """Zingl's walk from pixel to pixel: ((row, column), what shows through) of each pixel it meets."""
    (r, c), dr, dc = first, abs(last[0] - first[0]), abs(last[1] - first[1])
    step_r, step_c = 1 if last[0] > r else -1, 1 if last[1] > c else -1
    length, error = math.hypot(dr, dc) or 1, dc - dr
    while True:
        yield (r, c), abs(error - dc + dr) / length
        before, column = error, c
        if 2 * before >= -dc:
            if c == last[1]:
                return
            if before + dr < length:
                yield (r + step_r, c), (before + dr) / length
            error, c = error - dr, c + step_c
        if 2 * before <= dr:
            if r == last[0]:
                return
            if dc - before < length:
                yield (r, column + step_c), (dc - before) / length
            error, r = error + dc, r + step_r


def sparkle(random, severity, shape):
    """Centre, 199 lengths of rays in radii, and how many of them there are."""
    return random.uniform(0.25, 0.75, 2) * shape[0], random.normal(1, 0.25, 199), random.integers(50, 200)


def light(shape, centre, lengths, rays, exponent):
    """How far each pixel is from the dark, (H, W, 1)."""
    out = np.zeros((*shape[:2], 1))
    for y in range(shape[0]):
        for x in range(shape[1]):
            dy, dx = y - centre[0], x - centre[1]
            turn = (math.atan2(dx, dy) + math.pi) / (2 * math.pi) * rays
            ray, share = int(turn), turn - int(turn)
            near, far = lengths[ray % rays], lengths[(ray + 1) % rays]
            length = near + share * (far - near)
            gain = (length**2 / (dy**2 + dx**2 + 1e-4)) ** exponent
            out[y, x] = min(max((1 - (share - 0.5) ** 2) * gain, 0), 1)
    return out


def inverse_sparkles(image, severity, centre, lengths, rays):
    shown = light(image.shape, centre, 0.25 * len(image) * lengths, int(rays), INVERSE[severity - 1])
    return stored(255 + shown * (image - 255.0))


def five_sparkles(random, severity, shape):
    return random.uniform(0, shape[0], (5, 2)), random.normal(1, 0.25, (5, 199)), random.integers(50, 200, 5)


def sparkles(image, severity, centres, lengths, rays):
    radius, levels = SPARKLES[severity - 1] * len(image), image.astype(float)
    for centre, length, count in zip(centres, lengths, rays, strict=True):
        levels += light(image.shape, centre, np.maximum(radius * length, 1), int(count), 1) * (255 - levels)
    return stored(levels)


# ---------------------------------------------------------------- pixels that move


def linear(levels, y, x):
    """The value at a place, linear, black outside."""

    def pixel(row, column):
        inside = 0 <= row < levels.shape[0] and 0 <= column < levels.shape[1]
        return levels[row, column] if inside else np.zeros(3)

    top, left = math.floor(y), math.floor(x)
    down, right = y - top, x - left
    upper = pixel(top, left) * (1 - right) + pixel(top, left + 1) * right
    lower = pixel(top + 1, left) * (1 - right) + pixel(top + 1, left + 1) * right
    return upper * (1 - down) + lower * down


def directions(random, severity, shape):
    return (random.choice([-1.0, 1.0], (3, 3)),)


def pinch_and_twirl(image, severity, signs):
    """Square after square, each written into the image that the next one reads."""
    (amount, degrees), levels, size = TWIRL[severity - 1], image.astype(float), len(image) // 3
    for i in range(3):
        for j in range(3):
            centre = np.array([j * size + size / 2, i * size + size / 2])
            new = np.zeros((size, size, 3))
            for y in range(size):
                for x in range(size):
                    place = twirled(
                        y + j * size, x + i * size, centre, amount, signs[i, j] * degrees, size / 2
                    )
                    new[y, x] = linear(levels, *place)
            levels[j * size : (j + 1) * size, i * size : (i + 1) * size] = new
    return stored(levels)


def twirled(y, x, centre, amount, degrees, radius):
    distance = math.hypot(y - centre[0], x - centre[1])
    if distance > radius or round(distance, 3) == 0:
        return y, x
    share = distance / radius
    pull = math.sin(math.pi / 2 * share) ** -amount
    turned = (y - centre[0] + 1j * (x - centre[1])) * pull
    turned *= np.exp(1j * math.radians(degrees) * (1 - share) ** 2)
    return centre[0] + turned.real, centre[1] + turned.imag


def sines(random, severity, shape):
    return random.uniform(0.1, 0.3, 2) * shape[0], random.uniform(0, 2 * np.pi, 2)


def ripple(image, severity, wavelengths, phase):
    out, amplitude = np.zeros(image.shape), RIPPLE[severity - 1] * len(image)
    for place in np.ndindex(image.shape[:2]):
        moves = amplitude * np.sin(2 * np.pi * np.array(place) / wavelengths + phase)
        out[place] = linear(image.astype(float), *(place + moves))
    return stored(out)


def circular_motion_blur(image, severity):
    total, weights = np.zeros(image.shape), 0
    for share in np.linspace(-1, 1, 21):
        weight = math.exp(-2 * share**2)
        total += weight * ndimage.rotate(image / 255.0, share * TURN[severity - 1], reshape=False)
        weights += weight
    return stored(255 * total / weights)


def order(random, severity, shape):
    return (random.permutation(3),)


def transverse_chromatic_abberation(image, severity, order):
    out, size, most = image.copy(), len(image), FRINGES[severity - 1]
    for channel, scale in enumerate(np.array([1, 1 + most / 2, 1 + most])[order.astype(int)]):
        large = ndimage.zoom(image[..., channel], scale, prefilter=False)
        edge = (len(large) - size) // 2
        out[..., channel] = large[edge : edge + size, edge : edge + size]
    return out


REFERENCES = {
    "blue_noise_sample": Reference(phases, blue_noise_sample, "NumPy"),
    "brownish_noise": Reference(three_phases, brownish_noise, "NumPy"),
    "checkerboard_cutout": Reference(board, checkerboard_cutout, "Python loop"),
    "inverse_sparkles": Reference(sparkle, inverse_sparkles, "Python loop"),
    "pinch_and_twirl": Reference(directions, pinch_and_twirl, "Python loop"),
    "ripple": Reference(sines, ripple, "Python loop"),
    "circular_motion_blur": Reference(nothing, circular_motion_blur, "SciPy"),
    "lines": Reference(strokes, lines, "Python loop"),
    "sparkles": Reference(five_sparkles, sparkles, "Python loop"),
    "transverse_chromatic_abberation": Reference(order, transverse_chromatic_abberation, "SciPy"),
}
