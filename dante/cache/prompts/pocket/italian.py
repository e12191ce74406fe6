"""The Italian slice: questions, writing, translation and sums, about a ninth of the cache."""

import random

from dante.cache.prompts.pocket.family import Family, load_topics

TOPICS = load_topics("italian")


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
            "Perché è importante conoscere questo tema: {}? Una frase.",
            "Completa in una riga la voce di un piccolo dizionario: {}.",
            "Fai un esempio preso dalla vita di tutti i giorni: {}.",
        ],
        TOPICS["concetti"],
        rounds=3,
    ),
    Family(
        "it_question",
        "general",
        "it",
        [
            "{}",
            "{} Rispondi in una frase.",
            "{} Rispondi in modo semplice.",
            "Mio figlio chiede: {} Che cosa gli rispondo?",
            "Domanda: {} Risposta breve:",
            "{} Bastano poche parole.",
            "Un turista vuole sapere: {}",
            "{} Aggiungi un esempio.",
        ],
        TOPICS["domande"],
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
        TOPICS["elenchi"],
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
            "Aiutami, {}. Rispondi in una o due frasi.",
            'Qual è l\'errore più comune di chi dice: "{}"?',
        ],
        TOPICS["problemi"],
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
        TOPICS["temi"],
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
        TOPICS["frasi"],
    ),
    Family(
        "it_summarise",
        "general",
        "it",
        ["Riassumi in una frase: {}", "Scrivi un titolo per questa notizia: {}", "Di che cosa parla questo testo? {}"],
        TOPICS["notizie"],
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
