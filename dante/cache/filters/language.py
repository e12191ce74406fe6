"""Whether an answer is in the language that it was asked for, by counting function words.

A small teacher often answers an Italian question in English; such a record would carry the wrong language label. The
test speaks only when it is clear: short or mixed answers, code and unknown languages pass.
"""

import re

from dante.cache.records.record import Record

ENGLISH = (
    "the a an of to and in is are was were for on with that this it as be by from or at not you your i my we can "
    "have has will would they their he she his her its which who what how"
)
ITALIAN = (
    "il lo la i gli le un uno una di a da in con su per tra e è che non si del della dei delle al alla nel nella "
    "sono ha ho hai come più anche ma se questo questa mi ti ci cosa perché molto suo sua loro era essere"
)
FUNCTION_WORDS = {"en": frozenset(ENGLISH.split()), "it": frozenset(ITALIAN.split())}
WORDS = re.compile(r"[^\W\d_]+")
CLEAR_MARGIN_WORDS = 4


def spoken(text: str) -> str | None:
    """The language whose function words clearly prevail (twice as many, and at least four more), or None."""
    words = WORDS.findall(text.lower())
    shared = FUNCTION_WORDS["en"] & FUNCTION_WORDS["it"]
    hits = {
        name: sum(word in function_words and word not in shared for word in words)
        for name, function_words in FUNCTION_WORDS.items()
    }
    first, second = sorted(hits, key=lambda name: -hits[name])[:2]
    clear = hits[first] >= 2 * hits[second] and hits[first] - hits[second] >= CLEAR_MARGIN_WORDS
    return first if clear else None


def in_its_language(record: Record) -> bool:
    """False when the answer is clearly in another language than the record's label."""
    if record.language not in FUNCTION_WORDS:
        return True
    return spoken(record.teacher_text) in (None, record.language)
