"""Stage `likelihood`: a student reads every candidate answer once, and what it says of each token lies in files.

Made once for a student and a cache: whatever is selected from them, by any rule and in any run, reads these files.
"""

import time

from torch import nn

from dante import console
from dante.cache.asked import check_rendering
from dante.run.precision import device_of, dtype_of
from dante.run.step import Step
from dante.select.likelihood.files import LikelihoodFiles
from dante.select.likelihood.measure import likelihoods
from dante.select.sampled import no_logprobs, sampled
from dante.select.settings import LikelihoodSettings
from dante.students.trained import begun
from dante.system.files import read_json, write_json
from dante.system.threads import use_threads
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer

SPEED = "speed.json"  # apart from the rest: times are the only thing that differs when a step was interrupted


def run(step: Step[LikelihoodSettings]) -> None:
    """Writes the files of `dante.select.likelihood.files`; an interrupted step continues with its next batch.

    Inputs: `cache`, whose train records are scored; `teacher`; `init`, the student; `start`, where a fit has made
    something else of it.

    Raises:
        DanteError: see `likelihoods`.
    """
    settings, files = step.settings, LikelihoodFiles(step.out)
    step.out.mkdir(parents=True, exist_ok=True)
    trainer = step.resources["trainer"]
    use_threads(trainer["threads"])
    check_rendering(step.inputs["cache"], step.inputs.get("teacher"), settings.chat)
    records = sampled(step.inputs["cache"], settings.temperature, settings.prompts, step.seed)
    without = next((record for record in records if record.token_logprobs is None), None)
    if without is not None:
        raise no_logprobs(without)
    size = settings.batch_records
    batches = [records[start : start + size] for start in range(0, len(records), size)]
    missing = [number for number, batch in enumerate(batches) if not files.holds(number, batch)]
    timed = step.out / SPEED
    speed = read_json(timed) if timed.is_file() else {"tokens": 0, "seconds": 0.0}
    if missing:
        model = begun(step.inputs["init"], step.inputs.get("start"), dtype_of(settings.precision)).eval()
        nn.Module.to(model, device_of(trainer["accelerator"]))
        renderer = ChatRenderer(load_tokenizer(step.inputs["init"] / "model"), **settings.chat)
        with console.progress_bar() as bar:
            done = sum(len(batch) for number, batch in enumerate(batches) if number not in set(missing))
            task = bar.add_task("likelihood: answers", total=len(records), completed=done)
            for number in missing:
                began_s = time.perf_counter()
                rows = likelihoods(model, renderer, batches[number], lambda count: bar.advance(task, count))
                files.add(number, rows)
                speed["seconds"] += time.perf_counter() - began_s
                speed["tokens"] += sum(len(row.nats) for row in rows)
                write_json(timed, speed)  # of all attempts
    total = sum(len(row.nats) for row in files.rows(len(batches)))
    files.seal(
        {
            "batches": len(batches),
            "records": len(records),
            "tokens": total,
            "precision": settings.precision,
        }
    )
