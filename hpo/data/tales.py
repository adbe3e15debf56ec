"""Tales: 200,000 characters of short tales from a grammar, for character language models; generated, not downloaded."""

import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from hpo.data.source import Dataset, Source
from hpo.errors import is_whole

CHARACTERS = "\n ,." + string.ascii_lowercase
TEST_SHARE = 0.1  # the end of the text
# A word in braces is one of the lines below its name; {hero}, {it}, {place} and {thing} stay the same within a tale.
GRAMMAR = {
    "tale": (
        "{opening} {scene} {scene} {turn} {ending}",
        "{opening} {scene} {turn} {scene} {ending}",
        "{opening} {turn} {scene} {ending}",
    ),
    "opening": (
        "once there was a {trait} {hero} who lived {near} the {place}.",
        "{near} the {place} a {trait} {hero} looked after a {thing}.",
        "a {hero} came to the {place} {when}, {trait} and alone.",
    ),
    "scene": (
        "{when} {it} {act} the {thing}, and the {other} {react}.",
        "the {other} {react}, so {it} {act} the {thing} again.",
        "{it} asked the {other} for the {thing}, but the {other} {react}.",
        "as long as the {thing} was {state}, {it} stayed {near} the {place}.",
    ),
    "turn": (
        "then the {thing} was {state}, and nobody knew why.",
        "but the {other} had a {thing} too, which was {state}.",
        "only the {hero} saw that the {thing} was {state}.",
    ),
    "ending": (
        "so the {hero} left the {place}, and the {other} {react}.",
        "since then the {hero} has {act} no {thing} {near} the {place}.",
        "that is why the {thing} {near} the {place} is {state}.",
    ),
    "hero": ("baker", "ferryman", "weaver", "clockmaker", "shepherd", "glazier", "beekeeper", "carpenter"),
    "it": ("he", "she"),
    "other": ("miller", "fox", "heron", "innkeeper", "traveller", "gardener", "old dog", "night watch"),
    "place": ("river", "northern gate", "orchard", "salt marsh", "quarry", "empty market", "hill", "lighthouse"),
    "thing": ("lantern", "bell", "wooden wheel", "loaf", "blue thread", "ladder", "kettle", "map"),
    "trait": ("patient", "curious", "tired", "proud", "silent", "cheerful", "careful", "stubborn"),
    "state": ("broken", "lost", "warm", "heavier than before", "hidden", "full of rain", "almost new", "gone"),
    "act": ("mended", "carried", "counted", "painted", "covered", "lifted", "sold", "studied"),
    "react": ("laughed", "said nothing", "went away", "asked for more", "fell asleep", "began to sing", "nodded"),
    "near": ("beside", "behind", "below", "not far from", "across from"),
    "when": ("every morning", "in the last week of winter", "at noon", "before the first frost", "one evening"),
}
FIXED = ("hero", "it", "place", "thing")


@dataclass(frozen=True)
class Tales(Dataset):
    """Short tales from a grammar as sequences of characters; the target of each is the next one.

    The tales repeat their words, and a tale keeps its hero, place and thing, so that a model gains from a longer
    context. The last tenth of the text is the test set. The text is the same on every machine and version of Python.

    Attributes:
        length: characters per sequence. characters: of the whole text.
    """

    length: int = 64
    characters: int = 200_000

    task: ClassVar[str] = "tokens"
    vocabulary: ClassVar[int] = len(CHARACTERS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("length", is_whole(self.length, 1), "a whole number of characters, at least 1")
        enough = is_whole(self.characters, 40 * self.length)
        self._require("characters", enough, "a whole number of at least 40 sequences")

    def load(self) -> Source:
        """inputs and labels int64 [M, length], the text in order, and the test set's; one class per character."""
        numbers = {character: number for number, character in enumerate(CHARACTERS)}
        codes = torch.tensor([numbers[character] for character in text(self.characters)])
        count = (len(codes) - 1) // self.length
        inputs, labels = (codes[start : start + count * self.length].view(count, -1) for start in (0, 1))
        kept = count - round(TEST_SHARE * count)
        return Source(inputs[:kept], labels[:kept], inputs[kept:], labels[kept:], self.vocabulary)


def text(characters: int) -> str:
    """The first characters of the tales, one a line."""
    draws, tales, length = _draws(), [], 0
    while length < characters:
        tale = _expand("{tale}", draws, {})
        tales.append(tale)
        length += len(tale) + 1
    return "\n".join(tales)[:characters]


def _expand(phrase: str, draws: Iterator[int], chosen: dict[str, str]) -> str:
    """The phrase with every name in braces replaced by one of its alternatives."""
    before, brace, rest = phrase.partition("{")
    if not brace:
        return before
    name, _, after = rest.partition("}")
    if name not in chosen:
        options = GRAMMAR[name]
        word = _expand(options[next(draws) % len(options)], draws, chosen)
        if name in FIXED:
            chosen[name] = word
    else:
        word = chosen[name]
    return before + word + _expand(after, draws, chosen)


def _draws() -> Iterator[int]:
    """Pseudo-random numbers, of a linear congruential generator with Knuth's MMIX multiplier."""
    state = 1
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 33
