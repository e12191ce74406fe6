"""Advice, lists, plans: everyday help."""

from dante.teachers.prompts.family import Family

SITUATIONS = """I keep forgetting people's names|my neighbour plays loud music at night|I am nervous before a job interview
I spend too much money on takeaway food|my houseplants keep dying|I cannot fall asleep before midnight
I want to read more books this year|my child refuses to eat vegetables|I have to give a speech at a wedding
I am new in town and want to make friends|my inbox is full of unread e-mails|I get distracted by my phone while studying
my bicycle was stolen|I disagree with my boss about a plan|I want to start running but get out of breath
my laptop has become very slow|I have to pack for a week with one small bag|I forgot a friend's birthday
my flat is always untidy|I am learning a language and have stopped making progress|my dog pulls on the leash
I feel tired every afternoon at work|I need to save for a holiday|two of my friends are arguing|I burnt the bottom of a pan
I want to drink less coffee|I have a long train journey with two small children|I was given a gift that I do not like
my team misses its deadlines|I am afraid of flying|I would like to learn the guitar at forty|I have to move house in two weeks
my handwriting is hard to read|my colleague takes credit for my work|I want to eat less sugar|my kitchen is very small
I have trouble saying no|I lost my keys again|I want to wake up earlier|I have a cold and an important meeting tomorrow
my garden soil is very dry|I have an argument with my sister every Christmas|I am bored on Sunday afternoons
I want to reduce plastic waste at home|I must choose between two job offers|my cat scratches the sofa
I am going to cook for eight guests|I want to get better at chess""".replace("\n", "|").split("|")

LISTS = """healthy breakfasts|games for a rainy day|questions to ask at a job interview|tools every home should have
ways to save water|ideas for a birthday party|exercises that need no equipment|vegetables that grow well in pots
things to check before a long drive|gifts for a teacher|names for a small bakery|ways to say thank you
polite ways to end a phone call|hobbies that cost nothing|foods that are rich in protein|words that describe the sea
activities for a school trip|ways to learn new words|snacks for a picnic|reasons to visit a library|kinds of cloud
musical instruments with strings|items for a first-aid kit|ways to use stale bread|topics for small talk
qualities of a good friend|sports that are played in teams|things to do on a first day at work|ideas for a short film
ways to stay warm without heating|plants for a shady balcony|questions for a family quiz night|rules for a shared kitchen
jobs that involve animals|steps to prepare for an exam|inventions that changed medicine|ways to make a room look bigger
ingredients for a tomato soup|colours that go well with green|things to photograph in a city|phrases for a business meeting
types of bread from around the world|habits of people who sleep well|ideas for a classroom experiment|names for a grey kitten
ways to celebrate the new year|things that are made of glass|mistakes to avoid in a presentation""".replace(
    "\n", "|"
).split("|")

CHOICES = """working from home|owning a dog|school uniforms|living alone|buying second-hand clothes|cycling to work
a four-day week|social media for teenagers|eating meat-free once a week|studying abroad|open-plan offices|paying by card only
keeping a diary|learning two languages at once|electric scooters in cities|homework for young children|early retirement
freelance work|zoos|tourism in small villages|daily newspapers|remote meetings|public swimming pools|large weddings
long summer holidays|robots in hospitals|fast fashion|tall buildings|sharing a car|learning to code as a child
cooking in large batches|camping|video games|credit cards|night shifts|carpets in a bedroom""".replace("\n", "|").split(
    "|"
)

DISHES = """pancakes|vegetable soup|an omelette|fried rice|guacamole|lentil curry|a Greek salad|mashed potatoes|banana bread
spaghetti with tomato sauce|hummus|apple crumble|scrambled eggs|roast chicken|a smoothie|stuffed peppers|porridge
a cheese sandwich|mushroom risotto|chocolate mousse|lemonade|tacos|potato salad|French toast|pea soup|garlic bread
fish pie|coleslaw|a fruit salad|dumplings|pizza dough|chicken noodle soup|bean chilli|rice pudding|pesto|waffles""".replace(
    "\n", "|"
).split("|")

JOBS = """nurse|electrician|librarian|pilot|baker|architect|journalist|farmer|software developer|judge|translator
firefighter|marine biologist|tailor|bus driver|dentist|photographer|social worker|carpenter|accountant|park ranger
sound engineer|chef|primary school teacher|astronomer|plumber|museum curator|veterinarian|gardener|data analyst""".replace(
    "\n", "|"
).split("|")

GOALS = """learn to swim|write a short novel|repair an old chair|plan a school reunion|start a vegetable garden|train for a 5 km run
organise family photos|learn to juggle|set up a home office|build a bird house|start a book club|paint a bedroom
create a monthly budget|learn the basics of first aid|prepare a camping weekend|organise a street party|learn to type faster
make a scrapbook|start composting|host a board game night|clean out a garage|improve my posture|learn twenty Spanish verbs
plan meals for a week|make a podcast|visit three museums in one day|bake my first loaf of bread|sell old furniture online
teach my grandmother to use video calls|prepare a talk of five minutes|learn to draw faces|fix a dripping tap
plan a picnic for twenty people|reduce my electricity bill|photograph birds|keep a daily journal""".replace(
    "\n", "|"
).split("|")

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
        [s[0].upper() + s[1:] for s in SITUATIONS],
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
        LISTS,
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
        CHOICES,
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
        DISHES,
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
        JOBS,
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
        GOALS,
    ),
]
