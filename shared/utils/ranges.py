"""Numbers that a file or a caller gives, against the range in which they mean something."""

from shared.utils.errors import UserError


def check_range(name: str, value: object, low: float, high: float, whole: bool = True) -> None:
    """Raise UserError unless `value`, called `name`, is a number (`whole`: an integer) in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not low <= value <= high:
        raise UserError(f"{name} is {value!r}; a {'whole ' * whole}number from {low:g} to {high:g} is needed")
