"""Stories, e-mails, rewriting, descriptions."""

from dante.cache.prompts.pocket.family import Family, load_topics

TOPICS = load_topics("writing")


FAMILIES = [
    Family(
        "short_story",
        "writing",
        "en",
        [
            "Write a story in four sentences about {}.",
            "Tell a very short bedtime story about {}.",
            "Write the opening two sentences of a story about {}.",
            "Write only the last three sentences of a story about {}.",
            "Invent a title and a one-sentence plot for a story about {}.",
            "Write a funny story of at most five sentences about {}.",
            "Describe the main character of a story about {} in two sentences.",
            "In three sentences, tell a sad story with a hopeful ending about {}.",
        ],
        TOPICS["stories"],
        rounds=2,
    ),
    Family(
        "poem",
        "writing",
        "en",
        [
            "Write a haiku about {}.",
            "Write a four-line rhyming poem about {}.",
            "Write two lines of verse about {}.",
            "Find a metaphor for {} and explain it in one sentence.",
            "Write a short poem about {} without using any adjective.",
        ],
        TOPICS["muses"],
    ),
    Family(
        "email",
        "writing",
        "en",
        [
            "Write a short e-mail to {}.",
            "Write a polite message of two or three sentences to {}.",
            "Draft a text message to {}.",
            "Give me a good subject line and one opening sentence for an e-mail to {}.",
            "Write a friendly note of at most fifty words to {}.",
            "Help me to {}: write what I should send, briefly and formally.",
        ],
        TOPICS["mails"],
        rounds=2,
    ),
    Family(
        "slogan",
        "writing",
        "en",
        [
            "Write a slogan for {}.",
            "Suggest three names for {}.",
            "Write a product description of two sentences for {}.",
            "Write a short radio advertisement for {}.",
            "Write a one-line review by a happy customer of {}.",
        ],
        TOPICS["products"],
    ),
    Family(
        "make_formal",
        "writing",
        "en",
        [
            "Rewrite this in a formal tone: {}",
            'Make this sentence more polite: "{}"',
            "How would a professional write this? {}",
            "Rephrase for an office e-mail: {}",
        ],
        TOPICS["informal"],
    ),
    Family(
        "simplify",
        "writing",
        "en",
        [
            "Rewrite in plain English: {}",
            'Simplify this sentence for a child: "{}"',
            "Say the same in fewer words: {}",
            "Put this into everyday language: {}",
        ],
        TOPICS["complex"],
        rounds=2,
    ),
    Family(
        "grammar",
        "writing",
        "en",
        [
            "Correct the mistakes: {}",
            "Fix the grammar of this sentence and return only the corrected sentence: {}",
            'What is wrong with this sentence? "{}" Give the correct version.',
            "Proofread: {}",
        ],
        TOPICS["mistakes"],
    ),
    Family(
        "scene",
        "writing",
        "en",
        [
            "Describe {} in two sentences.",
            "What could someone hear and smell in {}? Two sentences.",
            "Write a postcard of three sentences from {}.",
            "Begin a mystery novel in {}: write the first two sentences.",
        ],
        TOPICS["scenes"],
    ),
    Family(
        "talk",
        "writing",
        "en",
        [
            "Write a dialogue of four lines between {}.",
            "Write a short, funny conversation between {}.",
            "Write two lines of dialogue between {} that show a disagreement.",
        ],
        TOPICS["speakers"],
    ),
]
