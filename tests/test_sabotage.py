"""The known ways to get training silently wrong are noticed: each is made in a copy of the lab, and its tests fail.

A sabotage names the line that it changes, so that one whose line is gone fails loudly.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Sabotage:
    """One change and the tests that have to see it (as `pytest` selects them)."""

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


SABOTAGES = {
    "block's scaling left out": Sabotage(
        "dante/densify/fill.py",
        "part.scaled(block.scaling * factor)",
        "part.scaled(factor)",
        ("tests/test_densify.py",),
    ),
    "halves without their scaling": Sabotage(
        "dante/models/moe/adapters/grouped.py",
        "config.norm_topk_prob, config.routed_scaling_factor = True, 2.0",
        "config.norm_topk_prob, config.routed_scaling_factor = True, 1.0",
        ("tests/test_moe_adapters.py",),
    ),
    "matching averaged by micro-batch": Sabotage(
        "dante/fit/block_pass.py",
        "(tokens.step_row_tokens * len(layers))",
        "(batch.input_ids.numel() * len(layers))",
        ("tests/test_block_pass.py",),
    ),
    "experts that were not chosen weigh in": Sabotage(
        "dante/models/moe/every_expert.py",
        " * weights_TE[..., None].to(first_TEJ.dtype)",
        "",
        ("tests/test_every_expert.py",),
    ),
    "wrong shift": Sabotage(
        "dante/data/batch.py", "positions=targets_at - 1,", "positions=targets_at,", ("tests/test_data.py",)
    ),
    "mask off by one": Sabotage(
        "dante/text/chat.py",
        "[True] * (end + 1 - start) + [False] * (len(ids) - end - 1)",
        "[True] * (end - start) + [False] * (len(ids) - end)",
        ("tests/test_chat.py",),
    ),
    "double normalisation": Sabotage(
        "dante/fit/module.py",
        "self._backward(result.total * self._ranks())",
        "self._backward(result.total * self._ranks() / tokens.step_tokens)",
        ("tests/test_module.py",),
    ),
    "micro-batch mean": Sabotage(
        "dante/fit/module.py",
        "batch.supervised_tokens,\n                batch.records,\n",
        "max(len(micro.labels), 1),\n                batch.records,\n",
        ("tests/test_module.py",),
    ),
    "use_cache left on": Sabotage(
        "dante/students/backbone.py", "use_cache=False,", "use_cache=True,", ("tests/test_module.py",)
    ),
    "position ids not reset": Sabotage(
        "dante/data/batch.py",
        "position_ids=joined([np.arange(length) for length in lengths] + nothing)[None]",
        "position_ids=joined([np.arange(max(1, sum(lengths)))])[None]",
        ("tests/test_data.py",),
    ),
    "weight decay on embeddings": Sabotage(
        "dante/fit/optimizer.py",
        "(parameter.ndim >= 2 and id(parameter) not in embeddings)",
        "parameter.ndim >= 2",
        ("tests/test_optimizer.py", "tests/test_module.py"),
    ),
    "TEA per micro-batch": Sabotage(
        "dante/fit/module.py",
        "            losses.append(result.total.detach())\n",
        "            losses.append(result.total.detach())\n"
        "            if index:\n"
        "                self._parameter_gradients(progress, {'loss': result.total.detach()})\n",
        ("tests/test_module.py",),
    ),
    "clip by the norm of one shard": Sabotage(
        "dante/losses/shards.py",
        "squares.append(sum_over_shards(local_square, group[0]))",
        "squares.append(local_square)",
        ("tests/test_sharded.py",),
    ),
    "mean over ranks of sums": Sabotage(
        "dante/fit/module.py", "result.total * self._ranks()", "result.total", ("tests/test_sharded.py",)
    ),
    "dropout the same in every step": Sabotage(
        "dante/fit/module.py", 'f"{self.seed}/{step}/', 'f"{self.seed}/', ("tests/test_dropout.py",)
    ),
    "T² in the value and not in the gradient": Sabotage(
        "dante/losses/distillation/divergences.py",
        "gradient_RV if temperature == 1.0 else gradient_RV.mul_(temperature)",
        "gradient_RV if temperature == 1.0 else gradient_RV.div_(temperature)",
        ("tests/test_logit_distillation.py",),
    ),
    "renormalised top-K in place of the tail": Sabotage(
        "dante/losses/distillation/topk_tail.py",
        "        tail_T = tile.sparse.tail.to(log_p_TK)\n",
        "        t_TK, tail_T = t_TK / t_TK.sum(-1, keepdim=True), tile.sparse.tail.to(log_p_TK) * 0\n"
        "        log_p_TK = log_p_TK.masked_fill(~there_TK, -torch.inf).log_softmax(-1)\n",
        ("tests/test_logit_distillation.py",),
    ),
    "teacher logits one position late": Sabotage(
        "dante/supervision/live.py",
        "return supervised_states(self.model, row, autocast=False)",
        "return supervised_states(self.model, row, autocast=False).roll(1, 0)",
        ("tests/test_live_teacher.py",),
    ),
    "lookup by step instead of id": Sabotage(
        "dante/supervision/sparse.py",
        "rows = self.logits.for_record(self.records[identity])",
        "self.step = getattr(self, 'step', -1) + 1; "
        "rows = self.logits.for_record(list(self.records.values())[self.step % len(self.records)])",
        ("tests/test_supervision.py",),
    ),
    "zero padding instead of −inf": Sabotage(
        "dante/losses/distillation/logits.py",
        "shared = min(tile.tokens.teacher.logits.vocabulary, tile.logits.shape[1])",
        "shared = tile.logits.shape[1]; tile.teacher_logits.nan_to_num_(neginf=0.0)",
        ("tests/test_logit_distillation.py",),
    ),
    "teacher left in train mode": Sabotage(
        "dante/supervision/live.py",
        "self.network = network.requires_grad_(False).eval()",
        "self.network = network.requires_grad_(False).train()",
        ("tests/test_live_teacher.py",),
    ),
    "mask without the end-of-turn token": Sabotage(
        "dante/text/chat.py",
        "[True] * (end + 1 - start) + [False] * (len(ids) - end - 1)",
        "[True] * (end - start) + [False] * (len(ids) - end)",
        ("tests/test_logit_mask.py",),
    ),
    "ratios of probabilities instead of differences": Sabotage(
        "dante/select/labels.py",
        "    gap = teacher - student\n    types = np.full(len(gap), Type.COMMON, dtype=np.int8)",
        "    gap = teacher / student - 1\n    types = np.full(len(gap), Type.COMMON, dtype=np.int8)",
        ("tests/test_select.py", "tests/test_selectors.py"),
    ),
    "probabilities per response instead of per sentence": Sabotage(
        "dante/select/sentence_scores.py",
        "return np.exp(self.logprob / self.tokens)",
        "return np.exp(0 * self.logprob + self.logprob.sum() / self.tokens.sum())",
        ("tests/test_sentence_scores.py", "tests/test_select.py"),
    ),
    "sentences end in characters, tokens in bytes": Sabotage(
        "dante/select/sentence_scores.py",
        'len(text[start:end].encode("utf-8"))',
        "len(text[start:end])",
        ("tests/test_sentence_scores.py", "tests/test_select.py"),
    ),
    "student asked with the teacher's template": Sabotage(
        "dante/select/likelihood/stage.py",
        'ChatRenderer(load_tokenizer(step.inputs["init"] / "model"), **settings.chat)',
        'ChatRenderer(load_tokenizer(step.inputs.get("teacher", step.inputs["init"]) / "model"), **settings.chat)',
        ("tests/test_likelihood.py",),
    ),
    "a student's own words are no targets": Sabotage(
        "conf/fit/default.yaml", "mask_prefix: false", "mask_prefix: true", ("tests/test_dasd.py",)
    ),
    "a limit in characters": Sabotage(
        "dante/cache/mixed/samples.py",
        'len(renderer.tokenizer(record.teacher_text, add_special_tokens=False)["input_ids"])',
        "len(record.teacher_text)",
        ("tests/test_dasd.py",),
    ),
    "spans where both have read as many tokens": Sabotage(
        "dante/data/spans.py",
        'aligned = align(ends, record.token_ends, begin, begin + len(text.strip().encode("utf-8")))',
        "aligned = align(range(1, len(ends) + 1), range(1, len(record.token_ends) + 1), 0, len(ends))",
        ("tests/test_alm.py",),
    ),
    "spans by characters": Sabotage(
        "dante/text/tokens/answer_ends.py",
        "def answer_token_ends(tokenizer: Any, rendered: Rendered, answer: str) -> list[int]:",
        "def answer_token_ends(tokenizer, rendered, answer):\n"
        "    return [len(answer.encode()[:end].decode()) for end in _in_bytes(tokenizer, rendered, answer)]\n\n\n"
        "def _in_bytes(tokenizer: Any, rendered: Rendered, answer: str) -> list[int]:",
        ("tests/test_alm.py",),
    ),
    "a span's likelihood as a mean": Sabotage(
        "dante/text/tokens/spans.py",
        "return running[spans.theirs[1:]] - running[spans.theirs[:-1]]",
        "return (running[spans.theirs[1:]] - running[spans.theirs[:-1]]) / np.diff(spans.theirs)",
        ("tests/test_spans.py", "tests/test_alm.py"),
    ),
    "the end of a turn in the last span": Sabotage(
        "dante/data/spans.py",
        "span, learnt = np.append(span, -1), np.asarray(targets, dtype=bool)",
        "span, learnt = np.append(span, spans - 1), np.asarray(targets, dtype=bool)",
        ("tests/test_alm.py", "tests/test_span_logits.py"),
    ),
    "a span's first token for its last": Sabotage(
        "dante/losses/spans/merged.py",
        "[behind - 1 - tile.start for _, behind in ranges]",
        "[first - tile.start for first, behind in ranges]",
        ("tests/test_span_logits.py",),
    ),
    "no bucket for what is not shared": Sabotage(
        "dante/losses/spans/matched_kl.py",
        "+ rest_t_C * ratio_C.log()",
        "",
        ("tests/test_span_logits.py",),
    ),
    "tokens compared one by one in spans of several": Sabotage(
        "dante/losses/spans/merged.py",
        "one_token = [theirs and behind - first == 1 for",
        "one_token = [True for",
        ("tests/test_span_logits.py",),
    ),
    "benchmark items left in the prompts": Sabotage(
        "dante/cache/filters/decontaminate.py",
        "for text in (_asked(record), record.teacher_text):",
        "for text in (record.teacher_text,):",
        ("tests/test_coder_prompts.py", "tests/test_filters.py"),
    ),
    "two matrices taken for one": Sabotage(
        "dante/models/gguf_file.py", "_SAME_MATRIX = 0.2", "_SAME_MATRIX = 20.0", ("tests/test_gguf.py",)
    ),
    "attention across documents": Sabotage(
        "dante/students/backbone.py",
        "**row_inputs(model, row),",
        "",
        ("tests/test_isolation.py", "tests/test_no_wait.py"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotage_is_noticed(name: str, tmp_path: Path) -> None:
    sabotage = SABOTAGES[name]
    for folder in ("dante", "tests", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "train.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    path = tmp_path / sabotage.file
    text = path.read_text()
    assert text.count(sabotage.right) == 1, f"{sabotage.file} has no single {sabotage.right!r}"
    path.write_text(text.replace(sabotage.right, sabotage.wrong))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *sabotage.tests]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "FAILED" in done.stdout
    print(f"{name}: {next(line for line in done.stdout.splitlines() if line.startswith('FAILED'))}")
