"""Types of the fields of an experiment, with their ranges."""

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

NonNegativeInt = Annotated[int, Field(ge=0, lt=2**31)]
PositiveInt = Annotated[int, Field(ge=1, lt=2**31)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
InsideUnit = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _parse_list(value: Any) -> Any:
    """``"1,2,3"`` as a list of floats, which is how a command line gives one."""
    if not (isinstance(value, str) and "," in value):
        return value
    try:
        return [float(number) for number in value.split(",")]
    except ValueError:
        raise ValueError("must be numbers separated by commas") from None


# Tried from left to right, so that text from a command line becomes a number where possible.
LossOption = Annotated[
    int | float | list[float] | str,
    Field(union_mode="left_to_right"),
    BeforeValidator(_parse_list),
]
LossOptions = dict[str, LossOption]

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Configuration of the validated dataclasses: unknown fields, NaN and infinity are errors."""
