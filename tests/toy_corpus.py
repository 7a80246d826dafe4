"""Sentences of a small grammar: a corpus that a small model learns in minutes."""

from __future__ import annotations

import random


def toy_corpus(size: int, seed: int = 0) -> list[str]:
    """Sentences of a small grammar, some of two clauses."""
    rng = random.Random(seed)
    nouns = "cat dog farmer girl boy teacher horse bird king baker".split()
    places = "river house garden hill market bridge forest".split()
    adjectives = "small old red happy quiet tall young".split()
    transitive, intransitive = "sees likes follows finds hears helps".split(), "sleeps sings waits runs laughs".split()

    def noun_phrase() -> list[str]:
        return [rng.choice(["the", "a"]), *rng.sample(adjectives, int(rng.random() < 0.4)), rng.choice(nouns)]

    def place() -> list[str]:
        return [rng.choice(["near", "behind", "in"]), "the", rng.choice(places)]

    def clause() -> list[str]:
        subject, kind = noun_phrase() + (place() if rng.random() < 0.25 else []), rng.random()
        if kind < 0.35:
            return [*subject, rng.choice(intransitive), *(place() if rng.random() < 0.6 else [])]
        if kind < 0.8:
            return [*subject, rng.choice(transitive), *noun_phrase(), *(place() if rng.random() < 0.4 else [])]
        return [*subject, "is", *(["very"] if rng.random() < 0.4 else []), rng.choice(adjectives)]

    found = []
    for _ in range(size):
        words = [*clause(), *([",", "and", *clause()] if rng.random() < 0.2 else []), "."]
        found.append(" ".join([words[0].capitalize(), *words[1:]]))
    return found
