"""GLM-4.5, and the pocket mixture (`dante.teachers.mixture`)."""

from dante.models.moe.adapters.grouped import Grouped


class Glm4Moe(Grouped):
    """See `Grouped`."""

    model_type = "glm4_moe"
