"""Words of a text, for everything that compares texts: decontamination, duplicates, repetition, similarity.

A word is a run of letters, their marks and digits, lower-cased after Unicode NFKC, so that case, punctuation, layout
and the way an accent is encoded do not matter. Scripts that are written without spaces have no such runs: each of
their characters is a word of its own [I]. Otherwise a Chinese passage would be one word, and no n-gram would find it.
"""

import unicodedata

import regex

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORD = regex.compile(rf"(?V1)[{UNSPACED}]\p{{M}}*|[\p{{L}}\p{{N}}\p{{M}}--[{UNSPACED}]]+")


def words(text: str) -> list[str]:
    """The words of `text` in order."""
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())
