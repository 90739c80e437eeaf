"""What a check of a rule says when it does not simply pass."""


class Fails(Exception):
    """The rule breaks the contract: what was found, and the remedy."""


class Notes(Exception):
    """The rule keeps to the contract, and something is worth knowing."""


class Skips(Exception):
    """The check has nothing to say of this rule: why."""
