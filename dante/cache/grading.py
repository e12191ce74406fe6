"""Whether an answer to a question with one right answer is right: decided by its end, after whatever was thought."""

from dante.cache.generate.consistency.numbers import canonical, numbers
from dante.text.thinking import normalise_thinking, split_thinking
from dante.text.words import words


def is_correct(text: str, reference: str) -> bool:
    """Whether an answer ends with what is right [I].

    Where the right answer is a number, the last number of the answer has to be that one (`1,000.0` is `1000`); else the
    last line with a word in it has to end with the right answer's words, whatever their case and marks. What stands in
    the thinking part does not count.

    Args:
        text: the answer.
        reference: what is right, in its shortest form.
    """
    _, answer = split_thinking(normalise_thinking(text))
    number = canonical(reference.strip())
    if number is not None:
        found = numbers(answer)
        return bool(found) and found[-1] == number
    wanted = words(reference)
    lines = [line_words for line in answer.splitlines() if (line_words := words(line))]
    return bool(wanted and lines) and lines[-1][-len(wanted) :] == wanted
