"""What Li et al. (2022) print: percentages of success and lm-scores, under their own teacher, taggers and parsers."""

from __future__ import annotations

# Table 2: suite -> method -> (success, lm-score). Table 4: the two successes are parted.
TABLE_2: dict[str, dict[str, tuple[float, float]]] = {
    "semantic": {"PPLM": (9.9, 5.32), "FUDGE": (69.9, 2.83), "Diffusion-LM": (81.2, 2.55), "FT-sample": (72.5, 2.87),
                 "FT-search": (89.9, 1.78)},
    "pos": {"FUDGE": (27.0, 7.96), "Diffusion-LM": (90.0, 5.16), "FT-sample": (89.5, 4.72), "FT-search": (93.0, 3.31)},
    "tree": {"FUDGE": (17.9, 3.39), "Diffusion-LM": (86.0, 3.71), "FT-sample": (64.8, 5.72), "FT-search": (76.4, 3.24)},
    "spans": {"FUDGE": (54.2, 4.03), "Diffusion-LM": (93.8, 2.53), "FT-sample": (26.3, 2.88), "FT-search": (54.4, 2.19)},
    "length": {"FUDGE": (46.9, 3.11), "Diffusion-LM": (99.9, 2.16), "FT-sample": (98.1, 3.84), "FT-search": (100.0, 1.83)},
}  # fmt: skip
TABLE_4: dict[str, dict[str, tuple[float, float, float]]] = {
    "semantic+tree": {"FUDGE": (61.7, 15.4, 3.52), "Diffusion-LM": (69.8, 74.8, 5.92), "FT-PoE": (61.7, 29.2, 2.77)},
    "semantic+pos": {"FUDGE": (64.5, 24.1, 3.52), "Diffusion-LM": (63.7, 69.1, 3.46), "FT-PoE": (29.4, 10.5, 2.97)},
}  # fmt: skip

# The metric of each suite that is the paper's, as released.
METRIC = {
    "semantic": ("substring",), "pos": ("tag_match",), "tree": ("bracket_f1",), "spans": ("spans_exact",),
    "length": ("exact_length",), "semantic+tree": ("substring", "bracket_f1"), "semantic+pos": ("substring", "tag_match"),
}  # fmt: skip
