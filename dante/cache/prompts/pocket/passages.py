"""Tasks on a given text: summaries, questions, classification, extraction. The texts are our own."""

import random

from dante.cache.prompts.pocket.family import Family, load_topics

TOPICS = load_topics("passages")


def families(seed: int) -> list[Family]:
    """Families on texts; messages are filled with seeded names, places, dates and numbers."""
    reviews = [r for group in (TOPICS["reviews_good"], TOPICS["reviews_bad"], TOPICS["reviews_mixed"]) for r in group]
    return [
        Family(
            "summarise",
            "general",
            "en",
            [
                "Summarise in one sentence:\n\n{}",
                "What is the main point of this text?\n\n{}",
                "Give this text a title of at most six words.\n\n{}",
                "List two key facts from the text.\n\n{}",
                "{}\n\nTL;DR?",
                "Rewrite the following text in half as many words.\n\n{}",
            ],
            TOPICS["passages"],
            rounds=2,
        ),
        Family(
            "passage_question",
            "general",
            "en",
            [
                "Read the text and write one question that it answers, together with the answer.\n\n{}",
                "Who or what is this text about, and what changed? Answer in one sentence.\n\n{}",
                "Which word describes the tone of this text best, and why?\n\n{}",
                "Rewrite the text as a message to a friend.\n\n{}",
                "Continue the text with one more sentence.\n\n{}",
                "Give three keywords for this text, separated by commas.\n\n{}",
            ],
            TOPICS["passages"],
            rounds=2,
        ),
        Family(
            "sentiment",
            "general",
            "en",
            [
                "Is this review positive, negative or mixed? Answer with one word.\n{}",
                'Classify the sentiment and give the reason in a few words: "{}"',
                'How many stars out of five would this customer give? Explain in one sentence. "{}"',
                'Write a polite reply of one or two sentences from the owner: "{}"',
            ],
            reviews,
        ),
        Family(
            "topic",
            "general",
            "en",
            [
                "Choose a category for this headline (sport, business, science, culture, politics, weather): {}",
                'Which section of a newspaper does this headline belong to? "{}" Answer briefly.',
                "Turn this headline into a full sentence and add one more: {}",
                "Write a different headline for the same story: {}",
            ],
            TOPICS["headlines"],
            rounds=2,
        ),
        Family(
            "extract",
            "general",
            "en",
            [
                "List all names of people in this message.\n{}",
                "Extract the date and the place, if there are any: {}",
                "Which numbers occur in this message, and what does each one mean?\n{}",
                "Turn this message into a bulleted list of facts:\n{}",
                "Return the person, the place and the date as JSON.\n{}",
                "Summarise this message in at most ten words: {}",
            ],
            _messages(seed, 60),
        ),
    ]


def _messages(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    texts = []
    for i in range(count):
        (person, other), (city, city2) = draw.sample(TOPICS["people"], 2), draw.sample(TOPICS["cities"], 2)
        fields = {"person": person, "other": other, "city": city, "city2": city2}
        fields |= {
            "event": draw.choice(TOPICS["events"]),
            "item": draw.choice(TOPICS["items"]),
            "job": draw.choice(TOPICS["jobs"]),
        }
        fields |= {
            "month": draw.choice(TOPICS["months"]),
            "day": str(draw.randint(2, 28)),
            "hour": str(draw.randint(9, 18)),
        }
        fields |= {"phone": f"555-{draw.randint(1000, 9999)}", "order": str(draw.randint(10000, 99999))}
        fields |= {"count": str(draw.randint(2, 9)), "price": str(draw.randint(20, 400))}
        # i // 6 shifts the message kinds against the six wordings, so that every kind meets every wording
        texts.append(TOPICS["messages"][(i + i // len(TOPICS["messages"])) % len(TOPICS["messages"])].format(**fields))
    return texts
