"""A film as an animated GIF."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

    from dlm_control.tasks.film import Film, Scene, Word

COLOURS = ("#0072b2", "#b84f00", "#00795a", "#a0548c", "#8a6d00", "#3d7f98")
WIDTH, MARGIN, LINE = 960, 24, 30  # pixels
FRAME_MS, FIRST_MS, LAST_MS = 300, 900, 4000
_PAPER, _INK, _SOFT = (255, 255, 255), (31, 35, 40), "#6e7781"
_BAR = 70


def write_gif(film: Film, file: Path) -> None:
    """Draw a film, frame by frame, for a white page; the last frame stays longest, and then it begins again."""
    from PIL import Image, ImageDraw

    lines = [_most_lines(scene) for scene in film.scenes]
    height = 2 * MARGIN + 2 * LINE + sum(LINE * count + 36 for count in lines)
    frames = []
    for number in range(len(film.levels)):
        image = Image.new("RGB", (WIDTH, height), _PAPER)
        _draw(ImageDraw.Draw(image), film, number, lines)
        frames.append(image)
    several = Image.new("RGB", (WIDTH, 3 * height))  # one palette for all, or colours would flicker
    for i, number in enumerate((0, len(frames) // 2, len(frames) - 1)):
        several.paste(frames[number], (0, i * height))
    palette = several.quantize(96, method=Image.Quantize.MAXCOVERAGE)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [FIRST_MS, *[FRAME_MS] * (len(frames) - 2), LAST_MS][-len(frames) :]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)


def _draw(canvas: ImageDraw, film: Film, number: int, lines: Sequence[int]) -> None:
    x, y, last = MARGIN, MARGIN, number == len(film.levels) - 1
    for c, control in enumerate(film.controls):
        canvas.text((x, y), control.name, _colour(c), _font(17, bold=True))
        x += round(_font(17, bold=True).getlength(control.name + " "))
        canvas.text((x, y), control.target, _INK, _font(17))
        x += round(_font(17).getlength(control.target)) + 28
    y += LINE
    done = (number + 1) / len(film.levels)
    canvas.rectangle((MARGIN, y + 8, WIDTH - MARGIN, y + 11), "#d8dee4")
    canvas.rectangle((MARGIN, y + 8, MARGIN + round(done * (WIDTH - 2 * MARGIN)), y + 11), _SOFT)
    canvas.text((MARGIN, y + 14), _where(film, number), _SOFT, _font(13))
    y += LINE + 10
    for scene, count in zip(film.scenes, lines, strict=True):
        for line_number, line in enumerate(_wrapped(scene.frames[number].words)):
            _draw_words(canvas, line, y + line_number * LINE, last)
        y += LINE * count
        _draw_energies(canvas, film, scene, number, y)
        y += 36


def _draw_words(canvas: ImageDraw, words: Sequence[Word], y: int, last: bool) -> None:
    x = float(MARGIN)
    for word in words:
        held, text = word.control is not None, word.text.rstrip()
        font = _font(20, bold=held)
        colour = _colour(word.control) if word.control is not None else _INK
        canvas.text((x, y), text, colour if last else _faded(colour, 0.35 + 0.65 * word.prob), font)
        if held:
            canvas.rectangle((x, y + 25, x + font.getlength(text), y + 26), colour)
        x += font.getlength(word.text)


def _draw_energies(canvas: ImageDraw, film: Film, scene: Scene, number: int, y: int) -> None:
    """A bar for each control that has an energy; in the last frame, whether the text obeys."""
    x, last = MARGIN, number == len(film.levels) - 1
    for c, (control, energy, passed) in enumerate(zip(film.controls, scene.frames[number].energies, scene.passed, strict=True)):
        if energy is None and not last:
            continue
        mark = "" if not last else {True: "✓ ", False: "✗ ", None: "? "}[passed]
        canvas.text((x, y), mark + control.name, _colour(c), _font(13))
        x += round(_font(13).getlength(mark + control.name)) + 8
        if energy is not None and not last:
            full = round(_BAR * min(1.0, max(0.0, energy) / control.highest))
            canvas.rectangle((x, y + 5, x + _BAR, y + 11), "#d8dee4")
            canvas.rectangle((x, y + 5, x + full, y + 11), _colour(c))
            canvas.text((x + _BAR + 8, y), f"{energy:.1f}", _SOFT, _font(13))
            x += _BAR + 48
        x += 18


def _where(film: Film, number: int) -> str:
    return f"step {number + 1} of {len(film.levels)}, from noise level {film.levels[number]:.2f}"


def _most_lines(scene: Scene) -> int:
    return max(len(_wrapped(frame.words)) for frame in scene.frames)


def _wrapped(words: Sequence[Word]) -> list[list[Word]]:
    """The words of a text by line; every word is measured as if it were held, so that lines stay as they are."""
    lines: list[list[Word]] = [[]]
    x = 0.0
    for word in words:
        length = _font(20, bold=True).getlength(word.text)
        if x + length > WIDTH - 2 * MARGIN and lines[-1]:
            lines.append([])
            x = 0.0
        lines[-1].append(word)
        x += length
    return lines


def _colour(control: int) -> tuple[int, int, int]:
    code = COLOURS[control % len(COLOURS)]
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def _faded(colour: tuple[int, int, int], strength: float) -> tuple[int, int, int]:
    """A colour on white paper, so strong."""
    mixed = [round(255 + strength * (part - 255)) for part in colour]
    return mixed[0], mixed[1], mixed[2]


@cache
def _font(size: int, bold: bool = False) -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
