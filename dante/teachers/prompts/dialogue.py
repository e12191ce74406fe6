"""Conversation: small talk, roles, and follow-up questions after an earlier exchange."""

from dante.teachers.prompts.family import Family

REMARKS = """I just finished my last exam!|What do you think about rainy days?|Good morning! How are you today?|I am bored.
Tell me a joke about a computer.|Can you recommend a film for tonight?|I had a terrible day at work.|What is your favourite season?
My football team lost again.|I got a puppy yesterday.|Can you keep a secret?|I do not feel like cooking.|Tell me a riddle.
Do you ever get tired?|I am going on holiday tomorrow!|What can you help me with?|I think I was too rude to my brother.
Let's play a word game.|I baked my first cake today.|It is my grandmother's ninetieth birthday.|Nobody came to my presentation.
I cannot decide what to wear.|Say something encouraging.|Which superpower would be most useful?|I broke my favourite mug.
Do you like music?|I moved into a new flat.|Ask me an interesting question.|I am learning to cook.|What should I name my goldfish?
Wish me luck!|My plane is delayed by four hours.|I want to surprise my best friend.|Is it all right to be alone sometimes?
I have finally fixed my bike.|Give me a fun fact for my coffee break.""".replace("\n", "|").split("|")

ROLES = """a friendly librarian|a ship's captain|a patient maths tutor|a gardener|a hotel receptionist|a tour guide in Rome
a chef with strong opinions|a weather reporter|a wise old turtle|a museum guard|a football commentator|a shy poet
a train conductor|a travel agent|a fitness coach|a detective|a medieval knight|an alien on a first visit to Earth""".replace(
    "\n", "|"
).split("|")

# An earlier exchange, and what the user says next (two follow-ups each).
EXCHANGES = [
    (
        "What is the capital of Japan?",
        "The capital of Japan is Tokyo.",
        "And what is it famous for?",
        "Which language do people speak there?",
    ),
    (
        "Suggest a name for a cat.",
        "How about Pepper?",
        "Nice. Give me two more.",
        "It is a very calm, white cat. Does the name still fit?",
    ),
    (
        "How do I boil an egg?",
        "Put it into boiling water for eight minutes, then cool it under cold water.",
        "And if I like it soft?",
        "How do I peel it easily?",
    ),
    ("What is 15 times 4?", "15 times 4 is 60.", "Now divide that by 5.", "How did you calculate it?"),
    (
        "Write a Python line that prints hello.",
        'print("hello")',
        "Now make it print hello three times.",
        "How do I print my own name instead?",
    ),
    (
        "I want to start jogging.",
        "Great! Begin with ten slow minutes, three times a week.",
        "What shoes do I need?",
        "And what if my knees hurt?",
    ),
    (
        "Who wrote Romeo and Juliet?",
        "It was written by William Shakespeare.",
        "What is the story about, in one sentence?",
        "Name another play by him.",
    ),
    (
        "My tomato plant has yellow leaves.",
        "It may be getting too much water.",
        "How often should I water it?",
        "What else could it be?",
    ),
    (
        "Translate 'good night' into French.",
        'Good night in French is "bonne nuit".',
        "And into Spanish?",
        "When would a French person say that?",
    ),
    (
        "Give me an idea for dinner.",
        "You could make a vegetable stir-fry with rice.",
        "I have no rice. What can I use?",
        "Which vegetables are best for it?",
    ),
    (
        "What does an architect do?",
        "An architect designs buildings and plans how they are built.",
        "Is it a difficult job?",
        "How is that different from a builder?",
    ),
    (
        "Tell me a fact about whales.",
        "Blue whales are the largest animals that have ever lived.",
        "What do they eat?",
        "How do they breathe?",
    ),
    (
        "Write a sentence about the sea.",
        "The sea glittered under the morning sun.",
        "Make it sound sad.",
        "Now rewrite it as a question.",
    ),
    (
        "Is a tomato a fruit?",
        "Yes, botanically a tomato is a fruit.",
        "Why do people call it a vegetable then?",
        "Name two other examples like that.",
    ),
    (
        "I am nervous about my interview.",
        "That is normal. Prepare answers to three typical questions.",
        "Which questions?",
        "What should I wear?",
    ),
    (
        "What is a list in Python?",
        "A list is an ordered collection of items that can be changed.",
        "How do I add an item?",
        "How is it different from a tuple?",
    ),
    (
        "How far is the Moon?",
        "The Moon is about 384,000 km away from the Earth.",
        "How long does light need for that?",
        "Has anyone been there?",
    ),
    (
        "Recommend a hobby.",
        "You might enjoy drawing; all you need is paper and a pencil.",
        "I have no talent for it. Something else?",
        "How do I begin?",
    ),
    ("What is a synonym for happy?", "A synonym for happy is cheerful.", "And the opposite?", "Use it in a sentence."),
    (
        "My phone battery dies quickly.",
        "Lower the screen brightness and close apps you do not use.",
        "I did that. What next?",
        "Does cold weather matter?",
    ),
    (
        "When did the Berlin Wall fall?",
        "The Berlin Wall fell in November 1989.",
        "Why had it been built?",
        "What happened afterwards?",
    ),
    (
        "I need a gift for my father.",
        "If he likes to read, a good biography could be a fine gift.",
        "He does not read much. He likes fishing.",
        "What would it cost, roughly?",
    ),
    (
        "What is photosynthesis?",
        "It is how plants make food from sunlight, water and carbon dioxide.",
        "Explain it more simply.",
        "Where in the plant does it happen?",
    ),
    ("Write a slogan for a bakery.", "Fresh bread, warm hearts.", "Shorter, please.", "Now one for a shoe shop."),
    (
        "How many sides does a hexagon have?",
        "A hexagon has six sides.",
        "And an octagon?",
        "Where can I see hexagons in nature?",
    ),
    (
        "I cannot sleep.",
        "Try to put away your phone an hour before bed.",
        "I already do that.",
        "Would a warm drink help?",
    ),
    (
        "What is the boiling point of water?",
        "At sea level, water boils at 100 degrees Celsius.",
        "And on a high mountain?",
        "What is that in Fahrenheit?",
    ),
    (
        "Tell me a short joke.",
        "Why did the bicycle fall over? Because it was two-tired.",
        "Explain the joke.",
        "Another one, please.",
    ),
    (
        "Which Linux command lists files?",
        "Use ls to list the files of a folder.",
        "How do I see hidden files too?",
        "And how do I sort them by size?",
    ),
    (
        "What is a budget?",
        "A budget is a plan for how money is earned and spent.",
        "How do I make one?",
        "Why do people give up on it?",
    ),
    (
        "Name a planet.",
        "Saturn is a planet with bright rings.",
        "What are the rings made of?",
        "Is it larger than the Earth?",
    ),
    ("Correct this: He go home.", "He goes home.", "Why is it goes?", "And in the past tense?"),
    (
        "I would like to visit Italy.",
        "Rome, Florence and Venice are popular places for a first visit.",
        "Which one is best for art?",
        "I only have three days. What then?",
    ),
    (
        "How do I remove a coffee stain?",
        "Rinse it with cold water and dab it with a little soap.",
        "It is an old stain. What now?",
        "Does that work on a carpet?",
    ),
    (
        "What does SQL stand for?",
        "SQL stands for Structured Query Language.",
        "What is it used for?",
        "Show me a tiny example.",
    ),
    (
        "Describe autumn in one sentence.",
        "Autumn paints the trees gold and fills the air with the smell of rain.",
        "Now describe winter.",
        "Make it rhyme.",
    ),
    (
        "What is a healthy snack?",
        "A handful of nuts or an apple is a healthy snack.",
        "I am allergic to nuts.",
        "Why is it better than crisps?",
    ),
    (
        "What is the plural of mouse?",
        "The plural of mouse is mice.",
        "And of house?",
        "Are there other nouns like that?",
    ),
    (
        "How do bees make honey?",
        "They collect nectar and let its water evaporate in the hive.",
        "Why do they make it?",
        "How much does one bee make?",
    ),
    (
        "I have 20 euros and spend 7.",
        "Then you have 13 euros left.",
        "I spend half of the rest. What is left?",
        "Was that a good idea?",
    ),
    (
        "Begin a story about a fox.",
        "A young fox slipped through the fence at midnight.",
        "Continue with two sentences.",
        "Change the fox into a bear.",
    ),
    (
        "What is friction?",
        "Friction is a force that slows down things that rub against each other.",
        "Give an example.",
        "Can it be useful?",
    ),
    ("Which is bigger, 0.5 or 0.45?", "0.5 is bigger than 0.45.", "Why?", "And what about 0.54?"),
    (
        "What makes a good friend?",
        "A good friend listens, is honest and stays in hard times.",
        "Which of these matters most?",
        "How do I become one?",
    ),
    (
        "Explain what a browser is.",
        "A browser is a program that shows web pages.",
        "Name two of them.",
        "What is a cookie, then?",
    ),
    (
        "What should I pack for the beach?",
        "Pack a towel, sun cream, water and a hat.",
        "It may rain. What else?",
        "Which of these is the most important?",
    ),
    (
        "Who painted the Mona Lisa?",
        "Leonardo da Vinci painted the Mona Lisa.",
        "Where is it now?",
        "What else did he do?",
    ),
    (
        "Make a sentence with the word bridge.",
        "We crossed the old bridge before sunset.",
        "Now put it into the future.",
        "Make it longer.",
    ),
    (
        "Why is the sky blue?",
        "Air scatters blue light more than red light.",
        "Why is it red in the evening?",
        "Is the sky blue on Mars?",
    ),
    (
        "Suggest a team name for a quiz.",
        "How about The Curious Minds?",
        "Something funnier.",
        "We are four nurses. Can you use that?",
    ),
    (
        "What is HTML?",
        "HTML is the language that describes the structure of web pages.",
        "Show me a heading in HTML.",
        "Is it a programming language?",
    ),
    ("What is the largest ocean?", "The Pacific Ocean is the largest ocean.", "And the smallest?", "How deep is it?"),
]

EXCHANGES_IT = [
    (
        "Qual è la capitale d'Italia?",
        "La capitale d'Italia è Roma.",
        "Che cosa posso visitare lì?",
        "E la capitale della Spagna?",
    ),
    (
        "Consigliami un libro.",
        "Ti consiglio un romanzo giallo.",
        "Perché proprio quello?",
        "Preferisco le storie divertenti.",
    ),
    ("Quanto fa 12 per 3?", "12 per 3 fa 36.", "E diviso per 4?", "Come hai fatto il calcolo?"),
    ("Come si cuoce la pasta?", "Si cuoce in acqua bollente e salata.", "Per quanto tempo?", "Che salsa mi consigli?"),
    ("Dimmi il nome di un animale.", "Il delfino.", "Dove vive?", "Che cosa mangia?"),
    ("Ho mal di testa.", "Bevi un po' d'acqua e riposati.", "L'ho già fatto. E adesso?", "Devo andare dal medico?"),
]

FAMILIES = [
    Family(
        "small_talk",
        "dialogue",
        "en",
        ["{}", "{} Answer like a friend, in one or two sentences.", "{} (Keep it short.)"],
        REMARKS,
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
        ROLES,
        rounds=2,
    ),
]


def multi_turn() -> list[tuple[list[dict[str, str]], str, str]]:
    """(messages, language, family): an earlier exchange with each of its follow-ups."""
    conversations = []
    for exchanges, language, family in ((EXCHANGES, "en", "follow_up"), (EXCHANGES_IT, "it", "it_follow_up")):
        for question, answer, *follow_ups in exchanges:
            for follow_up in follow_ups:
                messages = [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer},
                    {"role": "user", "content": follow_up},
                ]
                conversations.append((messages, language, family))
    return conversations
