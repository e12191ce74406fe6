"""`self_consistency` of a record: agreement among extra samples of its prompt, which greedy decoding cannot give."""

from dante.cache.generate.consistency.extractors import Extractor
from dante.errors import DanteError
from dante.text.thinking import normalise_thinking, split_thinking


class SelfConsistency:
    """How it is measured.

    Args:
        samples: m, extra answers per prompt.
        temperature: of these samples.
        prompts: for how many prompts, chosen by a stable hash; null: all.
        extractor: what counts as the final answer.
    """

    def __init__(self, samples: int, temperature: float, prompts: int | None, extractor: Extractor) -> None:
        if samples < 2 or temperature <= 0:
            raise DanteError(
                f"samples={samples}, temperature={temperature}",
                where="cache.source.consistency",
                allowed="at least two samples at a temperature above 0: greedy answers are all the same",
            )
        self.samples, self.temperature, self.prompts, self.extractor = samples, temperature, prompts, extractor

    def measure(self, texts: list[str]) -> float:
        """Agreement in [0, 1] of the samples' answers; what stands between thinking delimiters does not count."""
        return self.extractor.agreement([split_thinking(normalise_thinking(text))[1] for text in texts])
