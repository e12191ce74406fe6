"""The Italian slice: questions, writing, translation and sums, about a ninth of the cache."""

import random

from dante.teachers.prompts.family import Family

CONCETTI = """la fotosintesi|la gravità|il ciclo dell'acqua|un vulcano|il terremoto|l'eclissi di sole|le maree|la respirazione
la digestione|il cuore|i batteri|i vaccini|l'effetto serra|l'energia solare|la corrente elettrica|il magnetismo|un atomo
la luce|il suono|la catena alimentare|i fossili|le stelle|la Luna|il sistema solare|l'evaporazione|il vento|le nuvole
la pioggia acida|il letargo|la migrazione degli uccelli|l'impollinazione|internet|un algoritmo|la democrazia|l'inflazione
il Rinascimento|l'Impero romano|la rivoluzione industriale|la stampa|il Colosseo""".replace("\n", "|").split("|")

DOMANDE = """Qual è la capitale della Francia?|Perché il cielo è blu?|Come si prepara il caffè?|Quanti giorni ha un anno bisestile?
Che cos'è un verbo?|Perché è importante dormire bene?|Dove si trova il lago di Garda?|Chi era Leonardo da Vinci?
Che cosa mangiano i gatti?|Come si dice "thank you" in italiano?|Quali sono i colori della bandiera italiana?
Perché le foglie cadono in autunno?|Che cos'è un vulcano spento?|A che cosa serve una bussola?|Quante zampe ha un ragno?
Qual è il fiume più lungo d'Italia?|Perché il ghiaccio galleggia?|Che cosa fa un architetto?|Come nasce un arcobaleno?
Che differenza c'è tra un lago e un mare?|Perché bisogna bere acqua?|Che cos'è il pesto?|Come funziona una bicicletta?
Quando comincia la primavera?""".replace("\n", "|").split("|")

ELENCHI = """frutti estivi|città italiane|strumenti musicali|sport di squadra|animali della fattoria|colori|mestieri
piatti italiani|verdure|mezzi di trasporto|capi d'abbigliamento|regali per un'amica|giochi per bambini|parole gentili
cose da portare in spiaggia|idee per la colazione|modi per risparmiare energia|fiori di primavera|oggetti di una cucina
motivi per leggere un libro|monumenti famosi|lingue parlate in Europa|ingredienti per un'insalata|attività per la domenica""".replace(
    "\n", "|"
).split("|")

PROBLEMI = """non riesco a dormire|ho troppi compiti|voglio imparare a cucinare|il mio vicino fa rumore|ho perso le chiavi
devo fare un esame domani|voglio fare più sport|il mio telefono è lento|non so che cosa regalare a mia madre
vorrei risparmiare denaro|sono sempre in ritardo|mi annoio la sera|il mio cane abbaia sempre|voglio imparare l'inglese
ho litigato con un amico|fa troppo caldo in casa|devo preparare una valigia|ho paura di parlare in pubblico""".replace(
    "\n", "|"
).split("|")

TEMI = """un gatto curioso|una giornata al mare|la prima neve|un vecchio pescatore|un treno in ritardo|una festa a sorpresa
il mercato del paese|un bambino e una stella|la nonna e il pane|un viaggio in montagna|una lettera perduta|un cane coraggioso
il giardino segreto|la luna piena|un temporale|il maestro di musica|un castello abbandonato|la bicicletta rossa""".replace(
    "\n", "|"
).split("|")

FRASI = """The train leaves at eight o'clock.|I would like a glass of water, please.|My sister lives in a small village.
Where is the nearest pharmacy?|It has been raining since yesterday.|We are going to the beach on Sunday.|The book is on the table.
How much does this shirt cost?|He forgot his umbrella at school.|Dinner is ready.|I have two brothers and a cat.
The museum is closed on Mondays.|Can you help me with this exercise?|She plays the piano every evening.|Good morning, how are you?
The children are playing in the garden.|I lost my keys last night.|This soup is too hot.|We need to buy bread and milk.
The mountain is covered with snow.|Turn left at the traffic lights.|My grandfather was a carpenter.|I am learning Italian.
The shop opens at nine.|Would you like to dance?|The dog is sleeping under the chair.|Tomorrow is my birthday.
I do not understand the question.|The sea is calm today.|Thank you for your letter.|He works in a hospital.
The window is open.|They arrived late because of the traffic.|Spring is my favourite season.|I drink coffee without sugar.
We saw a beautiful sunset.""".replace("\n", "|").split("|")

NOTIZIE = """Il comune ha aperto una nuova biblioteca vicino alla stazione. È aperta ogni giorno dalle nove alle venti e l'ingresso è gratuito.
Dopo tre giorni di pioggia il fiume è uscito dagli argini. I vigili del fuoco hanno aiutato dieci famiglie a lasciare le loro case.
Una classe di Torino ha piantato cento alberi nel parco. Gli alunni andranno ogni settimana ad annaffiarli.
Il panificio di via Roma regala il pane avanzato alla mensa dei poveri. Ogni sera un volontario passa a ritirarlo.
La squadra del paese ha vinto la partita all'ultimo minuto. Il portiere, che ha parato due rigori, è stato portato in trionfo.
Il museo resterà chiuso a gennaio per lavori. I biglietti già comprati saranno validi fino alla fine di marzo.
Un gatto è rimasto due giorni su un albero. È sceso da solo quando ha sentito l'odore del pesce.
La nuova linea del tram collega l'ospedale al centro in dodici minuti. Prima il viaggio in autobus durava mezz'ora.
I ragazzi del quartiere hanno pulito la spiaggia. Hanno raccolto venti sacchi di plastica e una vecchia bicicletta.
La scuola ha comprato trenta computer usati. Un gruppo di genitori li ha riparati durante le vacanze.
Il mercato del sabato si sposta in piazza Verdi. I banchi saranno gli stessi, ma ci sarà più spazio per parcheggiare.
Una nonna di ottant'anni ha imparato a nuotare. Ora va in piscina due volte alla settimana con la nipote.""".split("\n")

FAMILIES = [
    Family(
        "it_explain",
        "knowledge",
        "it",
        [
            "Spiega in due frasi: {}.",
            "Parlami brevemente di questo argomento: {}.",
            "Come spiegheresti a un bambino questo tema: {}? Usa poche parole.",
            "Scrivi una sola frase su questo argomento: {}.",
            "Che cosa bisogna sapere su questo tema: {}? Rispondi in breve.",
            "Scrivi una domanda da quiz e la risposta su: {}.",
            "Dammi un fatto interessante su questo argomento: {}.",
        ],
        CONCETTI,
        rounds=2,
    ),
    Family(
        "it_question",
        "general",
        "it",
        ["{}", "{} Rispondi in una frase.", "{} Rispondi in modo semplice."],
        DOMANDE,
        rounds=2,
    ),
    Family(
        "it_list",
        "general",
        "it",
        [
            "Elenca tre {}.",
            "Dimmi quattro {}, uno per riga.",
            "Quali {} mi consigli? Un elenco breve.",
            "Scrivi un elenco di cinque {}.",
        ],
        ELENCHI,
        rounds=2,
    ),
    Family(
        "it_advice",
        "general",
        "it",
        [
            "Ho un problema: {}. Dammi un consiglio breve.",
            'Un mio amico dice: "{}". Che cosa gli rispondo?',
            "Che cosa posso fare se {}? Due consigli.",
        ],
        PROBLEMI,
        rounds=2,
    ),
    Family(
        "it_story",
        "writing",
        "it",
        [
            "Scrivi una storia di tre frasi su {}.",
            "Scrivi una breve poesia su {}.",
            "Inventa un titolo e la prima frase di un racconto su {}.",
        ],
        TEMI,
        rounds=2,
    ),
    Family(
        "translate_en_it",
        "writing",
        "it",
        [
            "Translate into Italian: {}",
            'How do you say this in Italian? "{}"',
            "Traduci in italiano: {}",
        ],
        FRASI,
    ),
    Family(
        "it_summarise",
        "general",
        "it",
        ["Riassumi in una frase: {}", "Scrivi un titolo per questa notizia: {}", "Di che cosa parla questo testo? {}"],
        NOTIZIE,
        rounds=2,
    ),
]

CONTI = [
    "Quanto fa {a} più {b}?",
    "Luca ha {a} caramelle e ne mangia {c}. Quante ne restano?",
    "Un biglietto costa {c} euro. Quanto costano {b} biglietti?",
    "Quanto fa {b} per {c}?",
]


def generated(seed: int) -> list[Family]:
    """Small sums in Italian with seeded numbers."""
    draw = random.Random(seed + 2)
    texts = [
        CONTI[i % len(CONTI)].format(a=draw.randint(20, 90), b=draw.randint(4, 19), c=draw.randint(2, 15))
        for i in range(24)
    ]
    return [Family("it_sums", "maths", "it", ["{}"], texts)]
