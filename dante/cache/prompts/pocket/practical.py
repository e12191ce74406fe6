"""Advice, lists, plans: everyday help."""

from dante.cache.prompts.pocket.family import Family, load_topics

TOPICS = load_topics("practical")


FAMILIES = [
    Family(
        "advice",
        "general",
        "en",
        [
            "Here is my problem: {}. What should I do? Give me two short tips.",
            "{}. Any quick advice?",
            'A friend tells me: "{}." What could I answer in two sentences?',
            "Suggest one small step for today: {}.",
            "{}. List three things that I could try.",
            "What would a calm and sensible person do? {}. Keep the answer short.",
            "{}. What is the most common mistake in this situation?",
            "Be my coach and answer in at most three sentences: {}.",
        ],
        [s[0].upper() + s[1:] for s in TOPICS["situations"]],
        rounds=2,
    ),
    Family(
        "list",
        "general",
        "en",
        [
            "List five {}.",
            "Give me three {}, one per line.",
            "I need four {}. No explanations, please.",
            "Name three {} and add a few words on each.",
            "What are some good {}? Answer with a short bulleted list.",
            "Can you think of three unusual {}?",
            "Brainstorm four {} and mark your favourite one.",
            "Write a numbered list of three {}.",
        ],
        TOPICS["lists"],
        rounds=2,
    ),
    Family(
        "pros_cons",
        "general",
        "en",
        [
            "Give one advantage and one disadvantage of {}.",
            "What do people like about {}, and what do they complain about? Two sentences.",
            "Make the best case for {} in two sentences.",
            "Make the best case against {} in two sentences.",
            "Is {} a good idea? Give a balanced answer in three sentences.",
            "Write one question for a class debate about {} and a possible answer.",
        ],
        TOPICS["choices"],
        rounds=2,
    ),
    Family(
        "food",
        "general",
        "en",
        [
            "List the main ingredients of {}.",
            "How do I make {}? Four short steps at most.",
            "What goes well with {}? Two suggestions.",
            "Give one tip for better {}.",
            "How could I make a healthier version of {}? Answer in two sentences.",
            "Describe the taste of {} to someone who has never tried it.",
        ],
        TOPICS["dishes"],
        rounds=2,
    ),
    Family(
        "job",
        "general",
        "en",
        [
            "What does a {} do? Answer in two sentences.",
            "Name three skills that a {} needs.",
            "Describe a difficult moment in the working day of a {}.",
            "What would you ask a {} in an interview for a school newspaper? Two questions.",
            "How does someone become a {}? Be brief.",
        ],
        TOPICS["jobs"],
        rounds=2,
    ),
    Family(
        "plan",
        "general",
        "en",
        [
            "I want to {}. What are the first three steps?",
            "Make a short checklist for someone who wants to {}.",
            "How long does it take to {}, and what is needed? Answer briefly.",
            "Help me to {}: give one tip for the start and one for the end.",
            "What should I avoid when I try to {}? Two points.",
            "Motivate me in two sentences to {}.",
        ],
        TOPICS["goals"],
        rounds=2,
    ),
]
