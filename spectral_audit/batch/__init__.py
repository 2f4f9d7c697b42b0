"""Many checkpoints, one ledger: unchanged work is never redone, and nothing that was finished is lost."""
