"""The errors a person can meet, as a small typed tree with an exit code each.

SelfsightError                 1
├── UsageError                 2   wrong arguments: an unknown name, a path that is not there
│   ├── RecipeError            2   a recipe key or value that is not allowed
│   ├── ContractMismatch       2   data or weights prepared in another way than the model expects
│   └── UnsafeCheckpoint       2   not a selfsight checkpoint, or one that carries a pickle
├── NothingUsable              3   no input file could be used
├── GateRefused                4   the data or a model is refused by a rule of proof (a leak, a missing approval)
├── Unreachable               75   a service does not answer; what is finished is kept, the same command goes on
├── Preempted                 75   asked to stop; the state is saved, the same command goes on
└── Diverged                  76   the loss is no longer finite; the last good checkpoint is kept
    └── Collapsed             76   pretraining gives every crop the same features, and the recipe asks to stop then

`Refused` stands outside: one input file is not taken, the run goes on, the reason goes into the manifest.
"""

from __future__ import annotations


class SelfsightError(Exception):
    """What happened, to which file, and what to do."""

    exit_code = 1


class UsageError(SelfsightError):
    exit_code = 2


class RecipeError(UsageError):
    pass


class ContractMismatch(UsageError):
    pass


class UnsafeCheckpoint(UsageError):
    pass


class NothingUsable(SelfsightError):
    exit_code = 3


class GateRefused(SelfsightError):
    exit_code = 4


class Unreachable(SelfsightError):
    exit_code = 75


class Preempted(SelfsightError):
    exit_code = 75


class Diverged(SelfsightError):
    exit_code = 76


class Collapsed(Diverged):
    pass


class Refused(Exception):
    """An input file is not taken. `reason` must not contain the file's name: it goes into the manifest."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
