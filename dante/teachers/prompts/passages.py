"""Tasks on a given text: summaries, questions, classification, extraction. The texts are our own."""

import random

from dante.teachers.prompts.family import Family

PASSAGES = """The town library will close for two weeks in July while the roof is repaired. Books can be returned at the post office during that time, and no late fees will be charged.
Marta planted six tomato seedlings in May. Heavy rain washed two of them away, but the other four produced so much fruit that she gave some to every neighbour on her street.
Researchers counted the birds in twelve city parks. Parks with old trees had twice as many species as parks with lawns only, even when they were smaller.
The ferry leaves at 7.30 every morning except on Sundays. Tickets are sold on board, and bicycles travel free of charge as long as there is space.
A small bakery in the harbour began to sell yesterday's bread at half price. Within a month it threw away almost nothing, and its profits rose slightly.
Our school will try out later lessons this winter: classes start at nine instead of eight. Teachers will record whether pupils are more awake and whether homework suffers.
The old clock in the station had been wrong for years. When it was finally repaired, several commuters missed their trains because they had learned to subtract four minutes.
Sea otters wrap themselves in kelp before they sleep so that the current does not carry them away. Mothers also tie up their pups this way while they dive for food.
The company moved its meetings from Monday to Wednesday. Staff said that they now had time to prepare, and the meetings became fifteen minutes shorter on average.
Lina found a wallet on the bus and handed it to the driver. A week later she received a thank-you card and a small box of chocolates from its owner.
The museum has opened a room where visitors may touch copies of ancient tools. It was planned for blind guests, but it has become the favourite room of children.
Glass can be melted and shaped again and again without losing quality. Paper fibres, on the other hand, become shorter each time and can be recycled only about six times.
After the storm, the village had no electricity for three days. People cooked on camping stoves in the square, and many said that they had never talked so much with each other.
The new tram line connects the university with the hospital in eleven minutes. The bus needed twenty-five, and its stops will now be turned into parking for bicycles.
Tea was once so valuable that it was kept in locked boxes. The lady of the house wore the key, and servants were allowed to dry and reuse the leaves.
Jakob wanted to surprise his parents with dinner but forgot to turn on the oven. They ate salad and bread and laughed about the raw potatoes for years.
The lake froze early this year. Officials ask everyone to stay off the ice until it is at least twelve centimetres thick and green flags are raised on the shore.
Cork comes from the bark of an oak tree. The bark can be removed every nine years without harming the tree, which may live for two centuries.
The choir has forty members but only three tenors. To find more, it offers free singing lessons to anyone who promises to stay for a season.
A farmer noticed that his cows gave more milk when he played slow music. His neighbour tried loud rock music and saw no change at all.
The hotel asks guests to hang up towels that they want to use again. Since it began, it has saved a tenth of its water and a good deal of money.
Early maps often showed islands that did not exist. Some were clouds on the horizon, others were inventions that helped captains explain a failed voyage.
The hiking path to the waterfall is closed because of falling rocks. A longer route along the river is open and takes about two hours each way.
Nora learned to ride a bicycle at the age of sixty-two. She practised in an empty car park at dawn, so that nobody would see her fall.
The city has painted its bridges bright yellow. Drivers complain about the colour, but the number of accidents in fog has dropped by a third.
Bees tell each other where flowers are by dancing. The angle of the dance shows the direction, and its length shows how far they have to fly.
The phone company admitted that it had charged some customers twice in March. The money will be returned with the next bill, and nobody needs to apply.
A retired engineer built a tiny railway through his garden. It carries letters from the gate to the front door, and it has never been late.
The play had only one performance, because a pipe burst above the stage. Those who were there still say it was the best evening of the year.
Rice is usually grown in flooded fields. The water keeps weeds away, but farmers can save a third of it by letting the fields dry out now and then.
The volunteers collected two tonnes of rubbish from the beach. The strangest find was a piano, which now stands in the youth club.
Apprentices at the workshop spend their first month only sharpening tools. The master says that those who learn this well rarely cut themselves later.
The village shop was about to close when forty families bought it together. Each family works there for three hours a month, and the shelves are full again.
Penguins at the zoo were weighed before and after the holiday season. They had gained weight, although visitors are not allowed to feed them.
The orchestra will play in the park on Saturday at six. In case of rain the concert takes place in the sports hall, and tickets stay valid.
When the first escalator opened in a London shop in 1898, customers were offered brandy at the top to calm their nerves.""".split(
    "\n"
)

REVIEWS_GOOD = """The soup was wonderful and the staff remembered our names.|I have used this lamp every evening and it still looks new.
Delivery took one day and everything was well packed.|The guide knew every corner of the old town and made us laugh.
Best headphones I have owned; the battery lasts for days.|The room was spotless and the bed very comfortable.
My children ask to go back to this museum every week.|The app is simple, fast and does exactly what it promises.
A moving film with two brilliant actors.|The jacket kept me dry in three hours of rain.""".replace("\n", "|").split("|")
REVIEWS_BAD = """The zip broke on the first day and nobody answers my e-mails.|We waited an hour for cold pasta.
The book starts well but the ending makes no sense.|The room smelled of smoke and the window would not close.
The update deleted all my notes.|The shoes fell apart after two weeks.|The tour was rushed and far too expensive.
The film is two hours of people shouting.|The parcel arrived late and the cup was broken.|The battery is empty before noon.""".replace(
    "\n", "|"
).split("|")
REVIEWS_MIXED = """The food was excellent but the music was far too loud.|Nice design, although the buttons are hard to press.
The hotel is old, yet the view makes up for it.|Good camera, poor battery.|The course is useful but much too long.
The seats were uncomfortable; the play itself was great.|It works, nothing more and nothing less.
Friendly service, but they forgot half of our order.|Lovely colours, sadly one size too small.|The plot is thin, the pictures are stunning.""".replace(
    "\n", "|"
).split("|")

HEADLINES = """Local team wins cup after extra time|Central bank leaves interest rates unchanged|New telescope finds distant planet
Chef opens restaurant in old prison|Heavy snow expected in the north|Parliament votes on new road law|Vaccine trial shows good results
Actor announces return to the stage|Shares fall after weak sales|Students build boat from plastic bottles|Goalkeeper breaks his hand in training
Museum buys lost painting|Phone maker shows foldable tablet|Drought threatens wheat harvest|Mayor resigns over parking tickets
Marathon runner sets record at seventy|Band sells out stadium in minutes|Airline cuts winter flights|Whale seen near harbour
Hospital opens sleep clinic|Teachers ask for smaller classes|Robot helps to sort rubbish|Old cinema becomes library|Storm closes ferry port""".replace(
    "\n", "|"
).split("|")

PEOPLE = """Maria Rossi|Tom Becker|Aisha Khan|Lucas Martin|Yuki Tanaka|Elena Popova|James Carter|Fatima Ali|Pedro Silva
Hannah Weiss|Omar Haddad|Sofia Lind""".replace("\n", "|").split("|")
CITIES = "Lyon|Dublin|Porto|Vienna|Oslo|Bologna|Ghent|Toronto|Osaka|Leeds|Seville|Krakow".split("|")
EVENTS = (
    "workshop|concert|book fair|staff meeting|chess tournament|cooking class|school play|open day|charity run".split(
        "|"
    )
)
MONTHS = "January March April May June September October November".split()
ITEMS = "desk lamp|rain coat|kettle|backpack|keyboard|garden chair|tea set|winter boots|drill|bicycle helmet".split("|")

MESSAGES = [
    "Dear all, the {event} takes place in {city} on {day} {month} at {hour}:00. Please register with {person} by phone, {phone}.",
    "Hi, this is {person}. I ordered a {item} on {day} {month}, order number {order}, and it has not arrived in {city} yet.",
    "{person} moved to {city} in {month} and now works as a {job}. Her sister {other} stayed in {city2}.",
    "Invoice {order}: {count} x {item}, {price} euros in total, to be paid by {person} before {day} {month}.",
    "Reminder: {person} and {other} meet on {day} {month} at {hour}:30 in {city} to prepare the {event}.",
    "Lost: a {item}, left on the train from {city} to {city2} on {day} {month}. Please call {person}, {phone}.",
]
JOBS = "nurse|teacher|carpenter|engineer|cook|librarian".split("|")


def families(seed: int) -> list[Family]:
    """Families on texts; messages are filled with seeded names, places, dates and numbers."""
    reviews = [r for group in (REVIEWS_GOOD, REVIEWS_BAD, REVIEWS_MIXED) for r in group]
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
            PASSAGES,
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
            PASSAGES,
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
            HEADLINES,
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
        (person, other), (city, city2) = draw.sample(PEOPLE, 2), draw.sample(CITIES, 2)
        fields = {"person": person, "other": other, "city": city, "city2": city2}
        fields |= {"event": draw.choice(EVENTS), "item": draw.choice(ITEMS), "job": draw.choice(JOBS)}
        fields |= {"month": draw.choice(MONTHS), "day": str(draw.randint(2, 28)), "hour": str(draw.randint(9, 18))}
        fields |= {"phone": f"555-{draw.randint(1000, 9999)}", "order": str(draw.randint(10000, 99999))}
        fields |= {"count": str(draw.randint(2, 9)), "price": str(draw.randint(20, 400))}
        # i // 6 shifts the message kinds against the six wordings, so that every kind meets every wording
        texts.append(MESSAGES[(i + i // len(MESSAGES)) % len(MESSAGES)].format(**fields))
    return texts
