"""The stages of the builder, in order."""

from shared.curation import cut, shots, technical
from shared.curation.record import Stage

STAGES = (
    Stage("shots", shots.find_shots),
    Stage("technical", technical.examine),
    Stage("cut", cut.cut, reads=("technical",)),
)
