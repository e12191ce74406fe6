"""What teacher and untrained student say of some held-out answers of the pair coder → `data/coder`, for notebook 07.

python train.py +experiment=uld_coder teacher=gguf teacher.gguf=MODEL.gguf 'only=[teacher,cache,init]'
python notebooks/coder_data.py runs/uld_coder-pocket-s42
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from dante.cache import read_records
from dante.teachers.teacher import load_teacher
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer
from dante.text.tokens.answer_ends import answer_token_ends
from dante.text.tokens.matching import matched_ids
from dante.text.tokens.offsets import token_texts

ANSWERS, DECIMALS = 24, 3
OUT = Path(__file__).parent / "data" / "coder" / "answers.json"


def numbers(values: torch.Tensor) -> list[float]:
    return [round(value, DECIMALS) for value in values.tolist()]


@torch.no_grad()
def said(model, renderer: ChatRenderer, record) -> dict[str, list]:
    """Ends of the answer's tokens in its bytes, their log-probabilities, and the entropies before them."""
    text = record.teacher_text.strip()
    rendered = renderer.render(record.prompt, text)
    start, count = rendered.supervised.index(True), sum(rendered.supervised) - 1  # without the end of the turn
    ids = torch.tensor(rendered.input_ids[: start + count])
    log_p = model(input_ids=ids[None]).logits[0, start - 1 : -1].double().log_softmax(-1)
    return {
        "ends": answer_token_ends(renderer.tokenizer, rendered, text),
        "logprobs": numbers(log_p.gather(1, ids[start:, None])[:, 0]),
        "entropies": numbers(-(log_p.exp() * log_p).sum(-1)),
    }


def main(run: Path) -> None:
    theirs = load_teacher(run / "teacher").location(run / "teacher")
    folders = {"teacher": theirs, "student": str(run / "init" / "model")}
    renderers = {side: ChatRenderer(load_tokenizer(folder)) for side, folder in folders.items()}
    models = {
        side: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for side, folder in folders.items()
    }
    records = sorted(read_records(run / "cache", "heldout"), key=lambda record: record.id)[:ANSWERS]
    answers = [
        {"id": record.id, **{side: said(models[side], renderers[side], record) for side in folders}}
        for record in records
    ]
    their_ids, _ = matched_ids(renderers["teacher"].tokenizer, renderers["student"].tokenizer)
    shared = {
        "teacher": len(renderers["teacher"].tokenizer),
        "student": len(renderers["student"].tokenizer),
        "both": len(their_ids),
        "some": token_texts(renderers["teacher"].tokenizer, their_ids[:: len(their_ids) // 12].tolist()),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(
        json.dumps({"vocabularies": shared, "answers": answers}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(f"{len(answers)} answers, {OUT.stat().st_size / 1e3:.0f} kB → {OUT}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
