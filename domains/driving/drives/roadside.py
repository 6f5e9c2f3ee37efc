"""How people, cyclists, trees, buildings, poles, signs and fences look."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from domains.driving.drives.sprites import Sheet, Sprite
from domains.driving.drives.vehicles import DARK, RUBBER

WALLS = np.array([
    (150, 84, 66), (132, 96, 78), (188, 172, 146), (206, 196, 176), (168, 166, 162), (142, 140, 138), (196, 160, 118),
    (118, 110, 104), (176, 140, 124),
], np.float32)  # fmt: skip
SKIN = np.array([(224, 188, 160), (198, 150, 118), (140, 96, 70), (92, 62, 46)], np.float32)


def person(draw: np.random.Generator, stride: float) -> Sprite:
    """A walker, 0.6 m wide and 1.75 m tall; `stride` in 0..1 is how far the legs are apart."""
    sheet = Sheet(1.75 / 0.6, 64)
    coat, trousers = draw.integers(15, 200, 3), draw.integers(15, 110, 3)
    skin, wide = SKIN[draw.integers(4)], float(draw.uniform(0.17, 0.23))
    apart = 0.06 + 0.2 * stride
    for way in (-1, 1):
        foot = 0.5 + way * apart
        sheet.polygon([(0.5 + way * 0.16, 0.50), (0.5 - way * 0.02, 0.50), (foot - 0.06, 0.97), (foot + 0.06, 0.97)],
                      trousers)  # fmt: skip
        sheet.rectangle(foot - 0.08, 0.95, 0.17, 0.05, DARK)
        swing = 0.5 + way * (wide + 0.06 + 0.08 * stride)
        sheet.polygon([(0.5 + way * wide, 0.17), (0.5 + way * (wide - 0.08), 0.19), (swing - 0.05, 0.52),
                       (swing + 0.05, 0.52)], coat * 0.8)  # fmt: skip
    sheet.polygon([(0.5 - wide, 0.165), (0.5 + wide, 0.165), (0.5 + wide, 0.52), (0.5 - wide, 0.52)], coat, 0.25)
    sheet.disc(0.5, 0.085, 0.062, skin)
    sheet.polygon([(0.40, 0.06), (0.60, 0.06), (0.57, 0.022), (0.43, 0.022)], draw.integers(10, 120, 3))
    if draw.random() < 0.4:
        sheet.rectangle(0.5 + 0.2, 0.42, 0.2, 0.16, draw.integers(20, 160, 3))
    return sheet.sprite()


def cyclist(draw: np.random.Generator, stride: float) -> Sprite:
    """Somebody on a bicycle from behind or in front, 0.7 m wide and 1.75 m tall."""
    sheet = Sheet(1.75 / 0.7, 64)
    coat, trousers = draw.integers(30, 220, 3), draw.integers(15, 100, 3)
    sheet.rectangle(0.465, 0.60, 0.07, 0.40, RUBBER)
    sheet.rectangle(0.22, 0.42, 0.56, 0.025, DARK)
    for way in (-1, 1):
        knee = 0.62 + way * (0.08 * stride - 0.04)
        sheet.polygon([(0.5 + way * 0.15, 0.46), (0.5 + way * 0.02, 0.46), (0.5 + way * 0.10, knee + 0.16),
                       (0.5 + way * 0.2, knee + 0.16)], trousers)  # fmt: skip
        sheet.polygon([(0.5 + way * 0.2, 0.2), (0.5 + way * 0.12, 0.2), (0.5 + way * 0.22, 0.43),
                       (0.5 + way * 0.29, 0.43)], coat * 0.8)  # fmt: skip
    sheet.polygon([(0.29, 0.19), (0.71, 0.19), (0.66, 0.50), (0.34, 0.50)], coat, 0.25)
    sheet.disc(0.5, 0.11, 0.06, SKIN[draw.integers(4)])
    helmet = (235, 235, 235) if draw.random() < 0.5 else draw.integers(10, 200, 3)
    sheet.polygon([(0.39, 0.10), (0.61, 0.10), (0.57, 0.045), (0.43, 0.045)], helmet)
    sheet.rectangle(0.46, 0.56, 0.08, 0.025, (200, 30, 25))
    return sheet.sprite()


def tree(draw: np.random.Generator) -> Sprite:
    """A tree of full height and width 1: broad-leaved, conifer, bush or bare."""
    side = 112
    colour, opacity = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    kind = draw.choice(4, p=[0.5, 0.2, 0.2, 0.1])
    rows, columns = np.mgrid[:side, :side] / side
    if kind == 1:
        reach = 0.34 * (rows - 0.02) / 0.9 * (0.75 + 0.25 * np.abs(np.sin(rows * 22)))
        crown = np.where(rows < 0.92, reach - np.abs(columns - 0.5), -1) * 4
    elif kind == 2:
        crown = 1 - ((columns - 0.5) / 0.48) ** 2 - ((rows - 1.0) / 0.75) ** 2
    else:
        crown = np.full((side, side), -1.0)
        for x, y, r in zip(draw.normal(0.5, 0.13, 9), draw.uniform(0.22, 0.52, 9), draw.uniform(0.14, 0.24, 9),
                           strict=True):  # fmt: skip
            crown = np.maximum(crown, 1 - np.hypot(columns - x, rows - y) / r)
    coarse, fine = (ndimage.gaussian_filter(draw.normal(0, 1, (side, side)), s) * s * 3.5 for s in (5, 1.4))
    if kind != 2:
        cv2.line(opacity, (side // 2, side), (side // 2, round(0.45 * side)), 255, 5)
        colour[:] = (74, 60, 48)
    leaves = crown + 0.16 * coarse + 0.13 * fine > 0.08
    if kind == 3:
        leaves &= np.abs(fine) < 0.22
    green = np.array([(46, 66, 30), (64, 84, 38), (84, 94, 48), (58, 70, 44), (130, 88, 40)])[
        draw.choice(5, p=[0.3, 0.3, 0.2, 0.12, 0.08])
    ]
    green = green * draw.uniform(0.85, 1.15)
    light = 1.12 - 0.75 * rows + 0.28 * fine + 0.15 * coarse
    colour[leaves] = np.clip(green * light[leaves][:, None] * 1.15, 0, 255)
    opacity[leaves] = 255
    return Sprite.of(colour, opacity)


def facade(draw: np.random.Generator) -> Sprite:
    """A wall with rows of windows, for a building of about the same width and height."""
    side = 160
    base = WALLS[draw.integers(len(WALLS))] * draw.uniform(0.75, 1.1)
    grain = ndimage.gaussian_filter(draw.normal(0, 1, (side, side)), (0.6, 1.6))
    colour = base * (1 + 0.10 * grain / grain.std())[..., None]
    colour[::4] *= 0.95
    floors, across = int(draw.integers(3, 6)), int(draw.integers(3, 7))
    pitch_y, pitch_x = (side * 0.78) / floors, side / across
    tall, wide = draw.uniform(0.45, 0.65), draw.uniform(0.4, 0.65)
    for floor in range(floors):
        for place in range(across):
            y, x = side * 0.06 + floor * pitch_y, (place + (1 - wide) / 2) * pitch_x
            rows, columns = slice(int(y), int(y + tall * pitch_y)), slice(int(x), int(x + wide * pitch_x))
            pane = draw.uniform(30, 80) * np.array((0.85, 0.95, 1.1))
            colour[rows, columns] = pane * np.linspace(1.5, 0.8, rows.stop - rows.start)[:, None, None]
            colour[rows.stop : rows.stop + 2, columns] = base * 1.2
            colour[rows, (columns.start + columns.stop) // 2] = base * 1.15
    shop = draw.uniform(0.3, 1.0) * draw.uniform((60, 40, 40), (200, 170, 160))
    colour[int(side * 0.86) :] = shop * 0.5
    for x in np.arange(0.05, 0.95, 0.24):
        colour[int(side * 0.88) :, int(side * x) : int(side * (x + 0.17))] = (52, 58, 62)
    colour[int(side * 0.83) : int(side * 0.87)] = shop
    colour[:4] = base * 0.6
    return Sprite.of(np.clip(colour, 0, 255).astype(np.uint8), np.full((side, side), 255, np.uint8))


def pole(side: int) -> Sprite:
    """A lamp post, as wide as a third of its height; on the right side (1) of a road its arm points to the left."""
    sheet = Sheet(3.0, 64)
    sheet.rectangle(0.93, 0.02, 0.06, 0.98, (120, 122, 124))
    sheet.polygon([(0.10, 0.015), (0.99, 0.03), (0.99, 0.045), (0.10, 0.025)], (120, 122, 124))
    sheet.rectangle(0.0, 0.008, 0.3, 0.025, (170, 172, 170))
    return sheet.sprite(side)


def post() -> Sprite:
    """The post of a sign."""
    sheet = Sheet(8.0, 8)
    sheet.rectangle(0, 0, 1, 1, (128, 130, 132))
    return sheet.sprite()


def sign(draw: np.random.Generator) -> Sprite:
    """A traffic sign: prohibition, warning, direction or a white board."""
    sheet, kind = Sheet(1.0, 48), draw.integers(4)
    if kind == 0:
        sheet.disc(0.5, 0.5, 0.49, (190, 25, 30))
        sheet.disc(0.5, 0.5, 0.36, (238, 238, 235))
        sheet.rectangle(0.33, 0.36, 0.12, 0.28, DARK)
        sheet.rectangle(0.54, 0.36, 0.14, 0.28, DARK)
    elif kind == 1:
        sheet.polygon([(0.5, 0.02), (1, 0.95), (0, 0.95)], (190, 25, 30))
        sheet.polygon([(0.5, 0.25), (0.80, 0.83), (0.20, 0.83)], (240, 240, 236))
        sheet.rectangle(0.46, 0.42, 0.08, 0.3, DARK)
    else:
        board, ink = ((25, 70, 140), (240, 240, 240)) if kind == 2 else ((240, 240, 236), DARK)
        sheet.rectangle(0, 0.05, 1, 0.9, board)
        for y in (0.2, 0.42, 0.64):
            sheet.rectangle(0.12, y, draw.uniform(0.3, 0.75), 0.1, ink)
    return sheet.sprite()


def rail(draw: np.random.Generator) -> Sprite:
    """A piece of fence, much longer than high: a guard rail, a wall of concrete, or boards."""
    sheet, kind = Sheet(0.15, 192), draw.integers(3)
    if kind == 0:
        for x in np.arange(0.02, 1, 0.24):
            sheet.rectangle(x, 0.3, 0.02, 0.7, (110, 112, 112))
        sheet.rectangle(0, 0.15, 1, 0.42, (172, 175, 176), 0.35)
        sheet.rectangle(0, 0.34, 1, 0.08, (120, 122, 124))
    elif kind == 1:
        sheet.rectangle(0, 0, 1, 1, (168, 164, 156), 0.35)
        sheet.rectangle(0.0, 0, 0.006, 1, (100, 98, 94))
    else:
        wood = draw.uniform((90, 66, 44), (140, 110, 80))
        for x in np.arange(0, 1, 0.06):
            sheet.rectangle(x, 0.05, 0.045, 0.95, wood * draw.uniform(0.8, 1.15))
        sheet.rectangle(0, 0.2, 1, 0.12, wood * 0.8)
    return sheet.sprite()


def spot() -> Sprite:
    """A soft dark spot: the shadow below a thing."""
    side = 48
    rows, columns = np.mgrid[:side, :side] / (side - 1) - 0.5
    soft = np.clip((0.5 - np.maximum(np.abs(rows), np.abs(columns))) / 0.18, 0, 1)
    soft = ndimage.gaussian_filter(soft, 2.0)
    return Sprite.of(np.zeros((side, side, 3), np.uint8), (255 * soft).astype(np.uint8))
