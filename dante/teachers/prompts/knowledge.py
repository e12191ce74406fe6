"""Explaining, defining, comparing: what a curious person asks."""

from dante.teachers.prompts.family import Family

SCIENCE = """photosynthesis|gravity|evaporation|friction|magnetism|erosion|the water cycle|static electricity|density
natural selection|vaccination|the immune system|osmosis|cellular respiration|DNA|genes|an ecosystem|a food chain
biodiversity|the ozone layer|the greenhouse effect|tides|a solar eclipse|the phases of the moon|black holes|comets
plate tectonics|a volcano|an earthquake|the rock cycle|sedimentary rock|fossils|atoms|molecules|isotopes|acids and bases
a chemical reaction|combustion|rust|surface tension|the boiling point|sound waves|the Doppler effect|refraction
a rainbow|infrared light|radio waves|radioactivity|nuclear fusion|electric current|voltage|inertia|momentum
kinetic energy|buoyancy|air pressure|the jet stream|humidity|the nervous system|the heart|digestion|hormones
the placebo effect|sleep cycles|short-term memory|pollination|symbiosis|hibernation|migration|camouflage|fermentation
antibiotics|bacteria and viruses|enzymes|the speed of light|a vacuum|entropy""".replace("\n", "|").split("|")

MACHINES = """a refrigerator|a microwave oven|a bicycle gear|a zip fastener|a vacuum flask|a toaster|an electric kettle
a ballpoint pen|a pencil sharpener|a camera lens|a telescope|a microscope|a barometer|a thermometer|a pendulum clock
a lighthouse|a windmill|a water wheel|a hydroelectric dam|a solar panel|a battery|a light bulb|an LED|a loudspeaker
a microphone|a barcode scanner|a touch screen|a GPS receiver|a hard drive|a computer mouse|a printer|a hot air balloon
a submarine|a helicopter|a jet engine|a sailing boat|a lift in a tall building|an escalator|a fire extinguisher
a smoke detector|a washing machine|a pressure cooker|a stapler|a lock and key|a compass|a parachute|a traffic light
a fibre-optic cable""".replace("\n", "|").split("|")

WORDS = """resilient|ambiguous|frugal|meticulous|empathy|irony|nostalgia|serendipity|procrastinate|candid|stubborn
versatile|obsolete|tedious|inevitable|reluctant|vivid|fragile|abundant|diligent|integrity|compromise|hypothesis
bias|metaphor|paradox|consensus|deadline|leverage|sustainable|tangible|plausible|eloquent|humble|curiosity|patience
ephemeral|pragmatic|scrutinise|trivial|cautious|gratitude|novice|thrive|barter|dilemma|hindsight|jargon""".replace(
    "\n", "|"
).split("|")

WHY = """Why is the sky blue during the day?|Why do leaves change colour in autumn?|Why does ice float on water?
Why do we yawn?|Why do cats purr?|Why does bread rise?|Why is the sea salty?|Why do onions make us cry?
Why do stars twinkle?|Why does metal feel colder than wood?|Why do birds fly in a V shape?|Why do we have leap years?
Why does soap clean grease?|Why do dogs wag their tails?|Why is it hotter in summer than in winter?
Why do we dream?|Why does popcorn pop?|Why do bees make honey?|Why do planes leave white trails in the sky?
Why do some people sneeze in bright light?|Why does salt melt ice on roads?|Why do our ears pop on a plane?
Why is chocolate harmful to dogs?|Why do we get goosebumps?|Why does thunder follow lightning?|Why do spiders spin webs?
Why do apples turn brown after they are cut?|Why do cities have mayors?|Why did people start using money?
Why do languages change over time?|Why do flamingos stand on one leg?|Why are most school buses painted a bright colour?
Why do we use passwords?|Why does a mirror swap left and right?|Why do whales come up to the surface?
Why is recycling glass useful?|Why do trees have rings?|Why do bridges have expansion joints?|Why do we need sleep?
Why do computers use binary?|Why do boats float although they are made of steel?|Why does hot air rise?
Why do plants need sunlight?|Why do mosquitoes bite?|Why does coffee keep people awake?|Why do fingers wrinkle in water?
Why do musicians tune their instruments?|Why do deserts get cold at night?""".replace("\n", "|").split("|")

HISTORY = """the printing press|the Silk Road|the Industrial Revolution|the Roman roads|the Renaissance|the Magna Carta
the building of the pyramids|the Black Death|the invention of the telephone|the first flight of the Wright brothers
the fall of the Berlin Wall|the space race|the French Revolution|the Viking voyages|the Great Wall of China
the suffragette movement|the first Olympic Games|the discovery of penicillin|the Age of Exploration|the Cold War
the abolition of slavery|the Great Depression|the moon landing|the invention of paper|the Library of Alexandria
the Ottoman Empire|the Maya civilisation|the Aztec capital Tenochtitlan|the Edo period in Japan|the gold rush
the steam engine|the first railways|the invention of the camera|the end of apartheid|the Meiji Restoration
the Suez Canal""".replace("\n", "|").split("|")

PLACES = """Iceland|Kenya|Venice|the Amazon rainforest|the Sahara desert|Tokyo|New Zealand|the Alps|Cairo|Peru
the Great Barrier Reef|Istanbul|Norway|Morocco|Vietnam|the Nile|Scotland|Mexico City|Antarctica|Singapore|Portugal
Mongolia|the Mediterranean Sea|Buenos Aires|Finland|the Himalayas|Jamaica|Amsterdam|Madagascar|Canada|Lisbon|Greece
the Danube|Patagonia|Nepal|Sicily""".replace("\n", "|").split("|")

ANIMALS = """octopuses|honeybees|elephants|penguins|bats|owls|dolphins|wolves|ants|sea turtles|chameleons|hummingbirds
sharks|hedgehogs|beavers|salmon|crows|butterflies|camels|giraffes|foxes|earthworms|kangaroos|seahorses|snails|squirrels
polar bears|tigers|frogs|jellyfish|horses|parrots|lobsters|otters|moles|swans""".replace("\n", "|").split("|")

PAIRS = """a violin and a cello|tea and coffee|weather and climate|a lake and a sea|a virus and a bacterium|butter and margarine
a comet and an asteroid|RAM and a hard drive|a crocodile and an alligator|jogging and walking|a novel and a short story
a city and a town|solar power and wind power|cotton and wool|a frog and a toad|renting and buying a home
a debit card and a credit card|online classes and classroom teaching|a bus and a tram|rugby and football|oil paint and watercolour
a moth and a butterfly|speed and velocity|mass and weight|a democracy and a monarchy|a lemon and a lime|baking and frying
printed books and e-books|electric cars and petrol cars|a simile and a metaphor|stress and anxiety|a hurricane and a tornado
living in a city and living in the country|a laptop and a tablet|tap water and bottled water|a biography and an autobiography
a refund and an exchange|heat and temperature|a rabbit and a hare|a guitar and a ukulele|summer holidays and winter holidays
a manager and a leader|jam and marmalade|a mammal and a reptile|a fruit and a vegetable|trains and planes
a goal and a dream|brown rice and white rice""".replace("\n", "|").split("|")

FAMILIES = [
    Family(
        "explain_concept",
        "knowledge",
        "en",
        [
            "Explain {} in two sentences.",
            "What is meant by {}? Answer briefly.",
            "A ten-year-old asks about {}. What would you say, in three short sentences?",
            "Give a one-sentence explanation of {} and one everyday example.",
            "I have an exam tomorrow. Remind me of the main idea behind {}.",
            "Describe {} with a simple analogy.",
            "What is one common misunderstanding about {}? Correct it in a sentence or two.",
            "Why does {} matter in daily life? Two sentences, please.",
            "Write a short glossary entry for {}.",
            "Tell me one surprising fact about {}.",
            "Could you clear up what {} involves? Keep it under fifty words.",
            "What would a beginner need to know first about {}?",
            "Finish this sentence and add one more: In science, {} refers to",
            "Write one quiz question about {} and give its answer.",
        ],
        SCIENCE,
        rounds=2,
    ),
    Family(
        "how_it_works",
        "knowledge",
        "en",
        [
            "How does {} work? Two or three sentences.",
            "What is the basic principle behind {}?",
            "Name the main parts of {} and what each one does, as a short list.",
            "Explain to a curious visitor of a museum what {} does.",
            "What problem does {} solve, and how? Be brief.",
            "In plain words, what happens inside {} when it is used?",
            "What should one check first when {} does not work?",
            "Who would use {}, and for what? Answer in two sentences.",
        ],
        MACHINES,
        rounds=2,
    ),
    Family(
        "define_word",
        "knowledge",
        "en",
        [
            'What does the word "{}" mean? Give one example sentence.',
            'Use "{}" in a sentence about work, then in one about family.',
            'Give two synonyms and one opposite of "{}".',
            'Explain the word "{}" to someone who is learning English.',
            'Is "{}" a positive or a negative word? Answer in one sentence and say why.',
            'Write a dictionary entry for "{}" in one line.',
        ],
        WORDS,
    ),
    Family(
        "why",
        "knowledge",
        "en",
        [
            "{}",
            "{} Answer in one or two sentences.",
            "{} Explain it simply.",
            "My daughter asked me: {} What do I tell her?",
        ],
        WHY,
    ),
    Family(
        "history",
        "knowledge",
        "en",
        [
            "What was {} and why was it important? Two sentences.",
            "Name one cause and one effect of {}.",
            "Give a very short summary of {} for a school poster.",
            "How did {} change everyday life? Keep it short.",
            "Write two sentences about {} as a guide in a museum would say them.",
            "When and where does {} belong in history? Answer in one sentence.",
        ],
        HISTORY,
    ),
    Family(
        "place",
        "knowledge",
        "en",
        [
            "Describe {} in two sentences.",
            "Where is {}, and what is it known for?",
            "List three things a visitor should see or do in or around {}.",
            "What is the climate of {} like? Answer briefly.",
            "Write one line for a travel brochure about {}.",
            "What should a traveller pack for a trip to {}? A short list.",
        ],
        PLACES,
    ),
    Family(
        "animal",
        "knowledge",
        "en",
        [
            "What do {} eat? Answer in one or two sentences.",
            "Tell me three short facts about {}.",
            "How do {} protect themselves from danger?",
            "Where do {} live, and how do they spend a day?",
            "What makes {} special compared with other animals? Two sentences.",
            "Write a caption for a zoo sign about {}.",
        ],
        ANIMALS,
    ),
    Family(
        "compare",
        "knowledge",
        "en",
        [
            "What is the difference between {}?",
            "Compare {} in two sentences.",
            "Name one similarity and one difference between {}.",
            "I always confuse {}. How can I remember which is which?",
            "Give one point each on {}, as a list of two lines.",
            "Which would you recommend to a beginner, given the choice between {}? Say why in one sentence.",
        ],
        PAIRS,
    ),
]
