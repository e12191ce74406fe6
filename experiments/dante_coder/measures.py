"""What the pair `coder` is judged by: three benchmarks, held-out answers, and texts that no cache holds."""

from dante.experiments.findings import Measure

BENCHMARKS = (
    Measure("humaneval_chat", "pass_at_1", "HumanEval as a chat, pass@1", False),
    Measure("mbpp_3shot", "pass_at_1", "MBPP, 3 examples, pass@1", False),
    Measure("gsm8k_0shot", "exact_match_flexible", "GSM8K, no examples, flexible", False),
)
MEASURES = (
    *BENCHMARKS,
    Measure("heldout", "bits_per_byte", "bits per byte of held-out answers", True),
    Measure("retention", "bits_per_byte", "bits per byte of other texts", True),
)
