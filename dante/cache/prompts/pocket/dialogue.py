"""Conversation: small talk, roles, and follow-up questions after an earlier exchange."""

from dante.cache.prompts.pocket.family import Family, load_topics

TOPICS = load_topics("dialogue")


FAMILIES = [
    Family(
        "small_talk",
        "dialogue",
        "en",
        ["{}", "{} Answer like a friend, in one or two sentences.", "{} (Keep it short.)"],
        TOPICS["remarks"],
    ),
    Family(
        "role",
        "dialogue",
        "en",
        [
            "You are {}. Introduce yourself in two sentences.",
            "Play the part of {}: what do you say to someone who is lost?",
            "Speak like {} and tell me what you had for breakfast, briefly.",
        ],
        TOPICS["roles"],
        rounds=2,
    ),
]


def multi_turn() -> list[tuple[list[dict[str, str]], str, str]]:
    """(messages, language, family): an earlier exchange with each of its follow-ups."""
    conversations = []
    for exchanges, language, family in (
        (TOPICS["exchanges"], "en", "follow_up"),
        (TOPICS["exchanges_it"], "it", "it_follow_up"),
    ):
        for question, answer, *follow_ups in exchanges:
            for follow_up in follow_ups:
                messages = [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer},
                    {"role": "user", "content": follow_up},
                ]
                conversations.append((messages, language, family))
    return conversations
