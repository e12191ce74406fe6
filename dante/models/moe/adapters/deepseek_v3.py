"""DeepSeek-V3 and R1, Kimi-K2."""

from dante.models.moe.adapters.grouped import Grouped


class DeepseekV3(Grouped):
    """See `Grouped`."""

    model_type = "deepseek_v3"
