"""Stories, e-mails, rewriting, descriptions."""

from dante.teachers.prompts.family import Family

STORIES = """a lighthouse keeper who finds a letter|a robot that wants to learn to dance|a lost umbrella|two rival bakers
a girl who can talk to clouds|a taxi driver's strangest night|a library that opens only at midnight|a snowman in spring
an old sailor and a storm|a dragon who is afraid of fire|a forgotten key|a train that never stops|a detective's first case
a village without mirrors|a boy and his grandfather's watch|a fox in the city|a message in a bottle|the last tree on an island
a painter who lost all colours|a mysterious neighbour|a race between two snails|an astronaut who grows tomatoes
a broken violin|a magician whose trick goes wrong|a cat that inherits a castle|a teacher on her last day|a map with a mistake
a garden under the sea|a clockmaker who stops time|a kite that flies too far|a stray dog at a wedding|a queen who hates her crown
an empty swimming pool|a postman in the mountains|twins who swap places|a bridge that nobody crosses|a shop that sells memories
a power cut during dinner|a child who finds a fossil|a baker who bakes a secret into bread|the quietest person in the orchestra
a night at the museum|a river that changes direction|an unexpected guest|a scarecrow with a plan|a very honest salesman
a piano in the forest|a mountain climber who turns back""".replace("\n", "|").split("|")

MUSES = """autumn rain|a busy market|my first bicycle|silence|the smell of coffee|a sleeping cat|winter mornings|the moon
an old photograph|summer holidays|a long road|friendship|a candle|the sound of bells|a broken cup|new shoes|a quiet lake
snow on a roof|my grandmother's kitchen|wind in the trees|a waiting room|the colour blue|a blank page|city lights
a spider's web|homesickness|a paper boat|the first day of school|fireflies|an empty chair|bread|a thunderstorm
the desert at night|a train window|a garden gate|laughter""".replace("\n", "|").split("|")

MAILS = """ask your landlord to repair the heating|thank a colleague for covering your shift|decline an invitation to a party
ask a professor for an extension|apologise for arriving late to a meeting|invite friends to a barbecue|complain about a late parcel
request a day off|congratulate a friend on a new job|cancel a gym membership|remind the team of a deadline
ask for feedback on a report|welcome a new neighbour|reschedule a dentist's appointment|ask a shop about opening hours
tell customers about a price change|thank a host for dinner|ask a hotel for a late check-out|return a pair of shoes
report a broken street lamp|recommend a former employee|ask a band to play at a wedding|tell parents about a school trip
confirm a meeting on Thursday|offer help to a sick friend|ask the library to renew a book|announce a lunch break change
ask a neighbour to water your plants|inform the bank about a lost card|sell a used desk|book a table for six people
introduce yourself to a new team|ask for a quote from a painter|say goodbye on your last day|ask for directions to an event
apologise for a mistake in an invoice""".replace("\n", "|").split("|")

PRODUCTS = """a reusable water bottle|a small bakery|a bicycle bell|an online language course|a cosy bookshop|a rain jacket
a vegetable box|a wooden toy train|a reading lamp|a city walking tour|a noise-free fan|a sports shoe for beginners
a family board game|a plant delivery service|a handmade candle|an umbrella that never breaks|a dog-walking service
a breakfast cereal|a yoga studio|a folding chair|a museum for children|a pocket notebook|a repair café|a camping stove
a travel pillow|a second-hand clothes shop|a ferry to the islands|an alarm clock for heavy sleepers|an ice-cream van
a lunch box|a music school|a tool library|a car-sharing app|a chess club|a garden centre|a film festival""".replace(
    "\n", "|"
).split("|")

INFORMAL = """hey, can u send me the file asap?|no way I'm gonna finish this today|sorry I missed ur call, was super busy
this app is total rubbish and keeps crashing|gimme a sec, I'll check|the meeting was a waste of time tbh
can't make it tonight, something came up|your kid was a pain in class again|we're kinda out of money for this project
thanks a bunch for the help!|tell the boss I'm sick|why didn't anybody tell me about this?|I dunno what you want from me
let's grab lunch and talk about the contract|the food was gross and the waiter was rude|I totally forgot, my bad
your price is way too high, come on|wanna join our team?|this report is all over the place|stop sending me so many mails
we messed up your order, sorry|the new guy has no clue|I need the money back now|can we do this some other time?
nobody reads these long mails anyway|that idea is never going to work|you guys did a great job|just call me if you're stuck
I'm fed up with waiting|the printer is dead again""".replace("\n", "|").split("|")

COMPLEX = """The implementation of the new regulations necessitates a comprehensive review of existing procedures.
Owing to inclement weather conditions, the outdoor event has been postponed until further notice.
Participants are requested to refrain from utilising mobile devices for the duration of the performance.
The acquisition of additional vocabulary is facilitated by extensive reading.
Prior to the commencement of the experiment, all equipment must be thoroughly inspected.
The committee reached the conclusion that the proposal was not financially viable.
In the event of an emergency, occupants should proceed to the nearest exit without delay.
A significant proportion of the respondents expressed dissatisfaction with the service.
The medication should be administered at regular intervals in conjunction with meals.
It is imperative that applicants submit their documentation in advance of the closing date.
The phenomenon can be attributed to a combination of environmental factors.
Residents are advised to minimise their consumption of water during the period of drought.
The vehicle was found to be in excess of the permitted speed limit.
The company endeavours to respond to enquiries within two working days.
Subsequent to the renovation, the museum experienced a substantial increase in attendance.
The manuscript was deemed unsuitable for publication in its present form.
Insufficient ventilation may have a detrimental effect on the health of the occupants.
The candidate demonstrated exceptional proficiency in negotiation.
Passengers are reminded to retain possession of their tickets until the termination of the journey.
The discrepancy between the two accounts remains unexplained.
Adequate hydration is essential for the maintenance of physical performance.
The council has initiated measures aimed at the reduction of traffic congestion.
The instructions provided by the manufacturer were found to be ambiguous.
Prospective tenants are obliged to furnish proof of income.""".split("\n")

MISTAKES = """She dont like to eats vegetables.|Their going to the cinema tomorow.|I has two brother and one sisters.
He go to school by bus yesterday.|Me and him was late for the meeting.|The childrens are playing in the gardin.
I am agree with your opinion.|There is many people in the street.|She is more taller than her sister.|We was waiting since two hours.
He didn't knew the answer.|I look forward to meet you.|Its to hot for working outside.|The informations is on the website.
If I would have time, I will help you.|They lives in this house for ten years.|Who's book is this on the tabel?
I have went to Paris last summer.|He speak English very good.|Where you are going tonight?|The cat drinked it's milk.
She said me that she is tired.|I could of won the game.|Less people came then last year.|Every students must brings a pen.
He is interested for music.|The weather is more better today.|I am living here since 2015.|Please, explain me the problem.
She have never saw the sea.|The news are very bad today.|You should to see a doctor.|I recieved you're letter on monday.
This is the most cheapest shop.|He don't never listen.|We discussed about the plan.|The dog wagged it's tale.
Can you borrow me your pen?|I enjoy to read in the evening.|There car is parked over their.|He is knowing the answer.
We need a advice about money.|She made a homework in hurry.|The man which called was angry.""".replace("\n", "|").split(
    "|"
)

SCENES = """a harbour at sunrise|a crowded underground train|a kitchen before a party|an abandoned factory|a mountain hut
a school playground|a flea market|a dentist's waiting room|a beach in winter|an old theatre|a greenhouse|a night bus
a village square at noon|a hospital corridor|a campsite after rain|an attic full of boxes|a football stadium|a quiet church
a fishing boat|a hotel lobby|an airport at midnight|a vineyard in autumn|a frozen river|a carpenter's workshop
a tea house in the hills|a carnival parade|a bakery at five in the morning|an empty classroom|a bridge in fog|a rooftop garden
a petrol station in the desert|a circus tent|a second-hand record shop|a waterfall|a tidy office|a street after a storm""".replace(
    "\n", "|"
).split("|")

SPEAKERS = """a doctor and a nervous patient|a shopkeeper and a customer who wants a refund|two friends planning a trip
a grandmother and her grandson|a tourist and a local|a waiter and a guest|a teacher and a late pupil|two neighbours and a fence
a mechanic and a driver|a librarian and a noisy reader|a coach and a tired runner|a cat and a dog|two astronauts
a mother and a teenager|a landlord and a tenant|a baker and a hungry mouse|a pirate and a parrot|a boss and a new employee
a conductor and a violinist|two strangers in a lift|a robot and a child|a gardener and a snail|a pilot and a passenger
a king and his cook""".replace("\n", "|").split("|")

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
        STORIES,
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
        MUSES,
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
        MAILS,
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
        PRODUCTS,
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
        INFORMAL,
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
        COMPLEX,
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
        MISTAKES,
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
        SCENES,
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
        SPEAKERS,
    ),
]
