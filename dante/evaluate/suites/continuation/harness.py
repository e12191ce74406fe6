"""Four-way choices through EleutherAI's lm-evaluation-harness: its Python API, a task of our own, no network.

`write_task` writes a folder that the harness's command line runs as well (`items.jsonl` and the task's YAML);
`run_choices` scores one model on it and returns what that command prints, plus every item's log-likelihoods.

What the harness computes (0.4.13, `ConfigurableTask.process_results`), for options o of one question:

- `acc`: the right option has the largest sum of natural-log probabilities of its tokens.
- `acc_norm`: the same after division by the option's *characters* (Unicode code points; bytes are `acc_bytes`).
- standard errors: sample standard deviation over items / sqrt(n). They cover the choice of items, not training seeds.

The model sees the tokens it was trained on: the chat template's generation prompt, then the option, nothing between
them (with a chat template the harness drops its delimiter " "), no second BOS (`add_bos_token=False`, as the chat
renderer). This is checked for every option before anything is scored. One thing is the harness's own: white space at
the end of the prompt counts as the option's (`TemplateLM._encode_pair`), so ChatML's newline after
`<|im_start|>assistant` is scored in every option. It adds the same number to all four and cannot change `acc`; a
student that was never trained on it gives it -5 nats, which changed `acc_norm` by one item in 120.
"""

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from dante.errors import DanteError
from dante.evaluate.harness.quiet import contained, counted
from dante.evaluate.suites.continuation.choices import ChoiceItem
from dante.students.load import load_student
from dante.text.chat import ChatRenderer, fixed_date
from dante.text.tokenizer import load_tokenizer

TASK = "continuation"
HARNESS = "lm-eval"
ITEMS_FILE, TASK_FILE = "items.jsonl", f"{TASK}.yaml"
DECODING = "log-likelihood of four continuations"

# The path of the items is relative, so that the folder can be moved; the command is given inside it.
TASK_YAML = f"""\
# Four-way choice of the teacher's continuation, for lm-evaluation-harness. Run the harness inside this folder.
task: {TASK}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {ITEMS_FILE}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: options
doc_to_target: gold
num_fewshot: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm # per character of the option
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""


@dataclass(frozen=True)
class ChoiceAnswer:
    """What a model made of one item.

    Attributes:
        id: of the held-out record.
        level: where the wrong options came from.
        gold: index of the right option.
        picked: index of the most likely option.
        picked_norm: index of the most likely option per character.
        log_likelihoods: of the four options, in nats.
    """

    id: str
    level: str
    gold: int
    picked: int
    picked_norm: int
    log_likelihoods: list[float]


@dataclass(frozen=True)
class ChoiceResult:
    """The harness's numbers for one model.

    Attributes:
        acc: share of items whose right option is the most likely.
        acc_stderr: its standard error over items, None for a single item.
        acc_norm: share of items whose right option is the most likely per character.
        acc_norm_stderr: its standard error over items, None for a single item.
        n: items.
        n_shot: worked examples in the prompt.
        harness_version: of lm-eval.
        decoding: what was computed and in which precision.
        command: prints the same numbers when it is given inside the task's folder. A template that writes the date
            shows the command's model today's, and ours a fixed one.
        answers: one per item, in the items' order.
    """

    acc: float
    acc_stderr: float | None
    acc_norm: float
    acc_norm_stderr: float | None
    n: int
    n_shot: int
    harness_version: str
    decoding: str
    command: str
    answers: list[ChoiceAnswer]

    def rows(self, model: str, seed: int) -> list[dict[str, Any]]:
        """The two rows of `eval.json`.

        Args:
            model: `teacher`, `init` or `student`.
            seed: that the student was trained with.
        """
        measured = {"acc_norm": (self.acc_norm, self.acc_norm_stderr), "acc": (self.acc, self.acc_stderr)}
        return [
            {
                "model": model,
                "task": TASK,
                "metric": metric,
                "value": value,
                "stderr": stderr,
                "n": self.n,
                "n_shot": self.n_shot,
                "harness": HARNESS,
                "harness_version": self.harness_version,
                "decoding": self.decoding,
                "seed": seed,
            }
            for metric, (value, stderr) in measured.items()
        ]


def write_task(folder: Path, items: Sequence[ChoiceItem]) -> None:
    """Writes `items.jsonl` and the task's YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in items)
    (folder / ITEMS_FILE).write_text("".join(lines), encoding="utf-8")
    (folder / TASK_FILE).write_text(TASK_YAML, encoding="utf-8")


def read_items(folder: Path) -> list[ChoiceItem]:
    """The items that `write_task` wrote."""
    lines = (folder / ITEMS_FILE).read_text(encoding="utf-8").splitlines()
    return [ChoiceItem(**json.loads(line)) for line in lines]


def run_choices(
    model_folder: Path,
    task_folder: Path,
    *,
    batch_size: int,
    dtype: torch.dtype,
    device: str,
    limit: int | None = None,
    chat: dict[str, Any] | None = None,
    advance: Callable[[int], object] = lambda options: None,
) -> ChoiceResult:
    """Scores a model on the task in a folder.

    Nothing is written, printed or fetched; logging levels, environment and random state are the caller's afterwards.

    Args:
        model_folder: a Hugging Face folder with a chat template.
        task_folder: written by `write_task`.
        batch_size: options in a forward pass. It changes results by rounding only.
        dtype: of weights and activations; log-softmax and sums are float32.
        device: `cpu`, `cuda`, `cuda:1`, …
        limit: only the first so many items, None for all.
        chat: extra variables of the chat template.
        advance: called with the number of options finished (four an item), for a progress bar.

    Raises:
        DanteError: the model or its template cannot be loaded, the harness would show it other tokens than training
            did, or an item is longer than its context.
    """
    chat = chat or {}
    items = read_items(task_folder)[:limit]
    with contained():
        renderer = ChatRenderer(load_tokenizer(model_folder), **chat)
        model = torch.nn.Module.to(load_student(model_folder, dtype=dtype), device).eval()
        from lm_eval import __version__, evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        # A loaded model, not a path: with a path the harness would set up a process group of its own under torchrun.
        harness_model = HFLM(
            pretrained=model,
            tokenizer=renderer.tokenizer,
            batch_size=batch_size,
            add_bos_token=False,
            softmax_dtype=torch.float32,
            chat_template_args={"strftime_now": fixed_date} | chat,
        )
        check_tokens(harness_model, renderer, items)
        with counted(model, 4 * len(items), advance):
            # What `simple_evaluate` and the command line call, without their look at git, pip and the machine.
            evaluation = evaluate(
                lm=harness_model,
                task_dict=TaskManager(include_defaults=False).load([_task_config(task_folder)]),
                limit=limit,
                apply_chat_template=True,
                fewshot_as_multiturn=True,
            )
    assert evaluation is not None
    command = _command(model_folder, task_folder, batch_size, dtype, device, limit, chat)
    return _result(evaluation, items, str(__version__), dtype, command)


def check_tokens(harness_model: Any, renderer: ChatRenderer, items: Sequence[ChoiceItem]) -> None:
    """Refuses a model that the harness would show other tokens than `ChatRenderer` shows it in training.

    Args:
        harness_model: an lm-eval `HFLM`.
        renderer: the model's chat renderer.
        items: what will be asked.

    Raises:
        DanteError: the tokens differ, or there are more of them than the model's context holds.
    """
    for item in items:
        context = harness_model.apply_chat_template([{"role": "user", "content": item.question}])
        prompt_ids = renderer.prompt_ids(item.question)
        for option in item.options:
            ids = [*prompt_ids, *renderer.tokenizer(option, add_special_tokens=False)["input_ids"]]
            if harness_model.tok_encode(context + option) != ids:
                raise DanteError(
                    f"the evaluation harness would show the model other tokens than training did, for {option[:40]!r}",
                    where=f"chat template of {renderer.name}, item {item.id}",
                    fix="end the template's generation prompt with a special token or a newline, or set eval.choices=0",
                )
            if len(ids) > harness_model.max_length:
                raise DanteError(
                    f"a question with its option has {len(ids)} tokens, the model's context {harness_model.max_length}",
                    where=f"item {item.id}",
                    fix="drop the record from the cache, or set eval.choices=0",
                )


def _task_config(task_folder: Path) -> dict[str, Any]:
    """The task's YAML, with its items in memory.

    Read by `datasets.load_dataset`, as the command line does, they would leave tables in the user's cache and a
    download count on a server.
    """
    from datasets import Dataset

    items = Dataset.from_list([asdict(item) for item in read_items(task_folder)])
    config: dict[str, Any] = yaml.safe_load((task_folder / TASK_FILE).read_text(encoding="utf-8"))
    return config | {"custom_dataset": lambda **_: {config["test_split"]: items}}


def _command(
    model_folder: Path,
    task_folder: Path,
    batch_size: int,
    dtype: torch.dtype,
    device: str,
    limit: int | None,
    chat: dict[str, Any],
) -> str:
    """The harness's own command line, to be given inside the task's folder."""
    # A hub id stays one; a folder is named from inside the task's, so that both can be moved together.
    source = os.path.relpath(model_folder, task_folder) if model_folder.is_dir() else str(model_folder)
    arguments: dict[str, Any] = {
        "pretrained": source,
        "dtype": str(dtype).removeprefix("torch."),
        "softmax_dtype": "float32",
        "add_bos_token": False,
    }
    if chat:
        arguments["chat_template_args"] = chat
    # As JSON: a comma in a path would end a key=value.
    words = ["python", "-m", "lm_eval", "run", "--model", "hf", "--model_args", json.dumps(arguments)]
    words += ["--tasks", TASK, "--include_path", ".", "--apply_chat_template"]
    words += ["--device", device, "--batch_size", str(batch_size)]
    words += [] if limit is None else ["--limit", str(limit)]
    return shlex.join(words)


def _result(
    evaluation: Any, items: Sequence[ChoiceItem], version: str, dtype: torch.dtype, command: str
) -> ChoiceResult:
    scores = evaluation["results"][TASK]
    answers = []
    for item, sample in zip(items, evaluation["samples"][TASK], strict=True):
        assert sample["doc"]["id"] == item.id
        log_likelihoods = [float(value) for value, _ in sample["filtered_resps"]]
        per_character = [value / len(option) for value, option in zip(log_likelihoods, item.options, strict=True)]
        picked, picked_norm = (max(range(len(v)), key=v.__getitem__) for v in (log_likelihoods, per_character))
        assert (picked == item.gold, picked_norm == item.gold) == (sample["acc"] == 1, sample["acc_norm"] == 1)
        answers.append(ChoiceAnswer(item.id, item.level, item.gold, picked, picked_norm, log_likelihoods))
    return ChoiceResult(
        acc=float(scores["acc,none"]),
        acc_stderr=_number(scores["acc_stderr,none"]),
        acc_norm=float(scores["acc_norm,none"]),
        acc_norm_stderr=_number(scores["acc_norm_stderr,none"]),
        n=len(answers),
        n_shot=int(evaluation["n-shot"][TASK]),
        harness_version=version,
        decoding=f"{DECODING}, {str(dtype).removeprefix('torch.')}",
        command=command,
        answers=answers,
    )


def _number(value: Any) -> float | None:
    """A standard error; the harness writes "N/A" for a single item."""
    return None if value == "N/A" else float(value)
