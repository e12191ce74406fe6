"""Under which licence each set was published, as its publishers say."""

LICENCES = {
    "Rowan/hellaswag": "MIT",
    "allenai/ai2_arc": "CC BY-SA 4.0",
    "baber/piqa": "AFL 3.0",
    "cais/mmlu": "MIT",
    "TIGER-Lab/MMLU-Pro": "MIT",
    "openai/gsm8k": "MIT",
    "openai/openai_humaneval": "MIT",
    "google-research-datasets/mbpp": "CC BY 4.0",
    "evalplus/humanevalplus": "Apache-2.0",
    "evalplus/mbppplus": "Apache-2.0",
    "Idavidrein/gpqa": "CC BY 4.0",
}


def licence_of(name: str) -> str:
    """The licence of a set that the hub calls so, or of the one that it is a part of; `unknown` otherwise."""
    found = [licence for known, licence in LICENCES.items() if name == known or name.startswith(f"{known}/")]
    return found[0] if found else "unknown"
