"""Temperatures of losses: above 0, or refused."""

from dante.errors import DanteError


def checked_temperature(temperature: float, loss: str, usual: float) -> float:
    """The temperature.

    Args:
        temperature: as the recipe says.
        loss: its key in the recipe.
        usual: one that makes sense, to be typed instead.

    Raises:
        DanteError: it is not above 0.
    """
    if temperature <= 0:
        raise DanteError(
            f"temperature is {temperature:g}",
            where=f"losses.{loss}.temperature",
            allowed="a number above 0",
            fix=f"losses.{loss}.temperature={usual:g}",
        )
    return float(temperature)
