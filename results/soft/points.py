"""The reward of the study."""


def alliterates(text: str) -> float:
    """Words that begin with the letter of the word before them; five are a point."""
    words = text.lower().split()
    return sum(a[0] == b[0] for a, b in zip(words, words[1:], strict=False)) / 5
