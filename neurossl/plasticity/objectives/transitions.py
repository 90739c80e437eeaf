"""Which response is compared with which context: transitions between fixations, online and batched."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurossl.errors import EventError
from neurossl.events import Fixation, Moment, Neuromodulation, Phase, Saccade, Succession


class Transitions(NamedTuple):
    """Which response is compared with which context, and how strongly.

    Attributes
    ----------
    online : bool
        Whether the contexts are traces of the fixation before.
    partner : Tensor of int, (rows,)
        Target row of the fixation from context row r.
    negatives : Tensor of int, (negatives, rows)
        Target rows of the saccades from context row r.
    fixation_gain, saccade_gain : Tensor, (rows,), or None
    """

    online: bool
    partner: Tensor
    negatives: Tensor
    fixation_gain: Tensor | None
    saccade_gain: Tensor | None

    def gains(self, dtype: torch.dtype, traced: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Return the gains of fixations and saccades, 0 for rows without a trace; None for 1 everywhere."""
        stay, jump = (gain if gain is None else gain.to(dtype) for gain in (self.fixation_gain, self.saccade_gain))
        if traced is None:
            return stay, jump
        present = traced.to(dtype)
        return (present if stay is None else stay * present), (present if jump is None else jump * present)


def transitions(moment: Moment, rows: int, device: torch.device) -> Transitions:
    """Return the transitions that a moment describes.

    Online (no ``Fixation.partner``) the target is the present response and the context the trace; each observer has made
    either a fixation within the object or a saccade.

    Raises
    ------
    EventError
        If a batched moment names partners but no negatives.
    """
    fixation = moment.require(Fixation, by="a contrastive objective")
    if Succession in moment:
        raise EventError(
            "a contrastive objective compares one fixation with the next, but the moment shows whole sequences: use "
            "ViewPairs or FixationSequence, or learn with the rule 'clapp'"
        )
    saccade = moment.get(Saccade)
    event = moment.get(Neuromodulation)
    gain = None if event is None else event.gain
    saccade_gain = gain if event is None or event.saccade_gain is None else event.saccade_gain
    if fixation.partner is not None:
        if saccade is None or saccade.negatives is None:
            raise EventError("a batched contrastive moment needs Saccade(negatives=...): the rows of other objects")
        negatives = saccade.negatives if saccade.negatives.ndim == 2 else saccade.negatives[None]
        if negatives.shape[1] != rows:
            raise EventError(f"Saccade.negatives: expected (negatives, {rows}), got {tuple(negatives.shape)}")
        return Transitions(False, fixation.partner, negatives, gain, saccade_gain)
    if Phase in moment:
        raise EventError(
            "a contrastive objective compares fixations of one object and of others, but the stream is one of wake and "
            "sleep: use ViewPairs or FixationSequence"
        )
    moved = torch.zeros(rows, device=device, dtype=torch.bool)
    if saccade is not None:
        moved = ~moved if saccade.observers is None else saccade.observers
    stayed, jumped = (~moved).float(), moved.float()
    itself = torch.arange(rows, device=device)
    return Transitions(
        True,
        itself,
        itself[None],
        stayed if gain is None else stayed * gain,
        jumped if saccade_gain is None else jumped * saccade_gain,
    )
