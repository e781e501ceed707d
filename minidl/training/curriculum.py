"""The order in which a network sees its data: blurred images first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minidl.data import sharpening
from minidl.ops.arguments import positive_integer
from minidl.training.callbacks import Callback

if TYPE_CHECKING:
    from minidl.training.trainer import Trainer


class ProgressiveSharpening(Callback):
    r"""Trains on blurred images first, then on sharper and sharper ones, on the originals last.

    .. math:: \mathrm{train}_K, \mathrm{train}_{K-1}, …, \mathrm{train}_1 = \mathrm{train}, \qquad
              \mathrm{train}_n = \mathrm{train} \circledast J_n / n^2

    Weights and the optimizer's state carry over from stage to stage. Each batch is blurred when its turn comes, after
    the Loader's augmentation, so that no blurred copy of the data is kept. Validation is always on the originals.

    Parameters
    ----------
    k : int
        K, the width in pixels of the first blur, and the number of stages.
    epochs_per_stage : int, default 1
        Of every stage but the last, which is all the rest of the run.
    mode : str, default "reflect"
        What lies beyond the border: see `data.sharpening.blur`, which also says how an even n is centred.

    Raises
    ------
    ValueError
        From `fit`, if it has too few epochs to come to the originals, if the inputs are no images (B, H, W, C), or if
        the run that it resumes had other stages.

    Notes
    -----
    S, the paper on progressive sharpening. Each epoch's record in the history tells its n as "blur". The stage follows
    from the number of the epoch, so a run that is resumed from a checkpoint is in its stage. With `EarlyStopping`, note
    that what is learned from blurred images may be validated worse at first: a patience below the epochs of all blurred
    stages may end the run there.

    Examples
    --------
    >>> sharpening = training.ProgressiveSharpening(k=3, epochs_per_stage=2)  # 4 epochs blurred
    >>> trainer = training.Trainer(model, optimizer, callbacks=[sharpening], progress=False)
    >>> trainer.fit(loader, epochs=6).column("blur")
    [3, 3, 2, 2, 1, 1]
    """

    state = ("k", "epochs_per_stage", "mode")

    def __init__(self, k: int, epochs_per_stage: int = 1, mode: str = "reflect") -> None:
        self.k = positive_integer(k, "ProgressiveSharpening", "k")
        self.epochs_per_stage = positive_integer(epochs_per_stage, "ProgressiveSharpening", "epochs_per_stage")
        if mode not in sharpening.MODES:
            expected = ", ".join(map(repr, sharpening.MODES))
            raise ValueError(f"ProgressiveSharpening: mode is {mode!r}, expected one of {expected}")
        self.mode = mode

    def width(self, epoch: int) -> int:
        """Return n, the width of the blur in an epoch, counted from 1: K, …, K, K − 1, …, 1."""
        return max(1, self.k - (epoch - 1) // self.epochs_per_stage)

    def on_start(self, trainer: Trainer) -> None:
        if self.width(trainer.epochs) > 1:
            needed = (self.k - 1) * self.epochs_per_stage + 1
            raise ValueError(
                f"ProgressiveSharpening: epochs is {trainer.epochs}, expected at least {needed}: {self.k} stages, of "
                f"{self.epochs_per_stage} each but the last, the originals"
            )

    def on_batch(self, trainer: Trainer, x: Any, y: Any) -> tuple[Any, Any]:
        n = self.width(trainer.epoch)
        return (x if n == 1 else sharpening.blur(x, n, self.mode)), y

    def on_epoch(self, trainer: Trainer) -> None:
        trainer.history.epochs[-1]["blur"] = self.width(trainer.epoch)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raise unless these are the settings here: the stages of a run stay."""
        differ = [
            f"{name} is {vars(self)[name]!r}, in the run {state[name]!r}"
            for name in self.state
            if name in state and state[name] != vars(self)[name]
        ]
        if differ:
            raise ValueError(f"ProgressiveSharpening.load_state_dict: {', '.join(differ)}")
        super().load_state_dict(state)
