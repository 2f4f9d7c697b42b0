"""What an audit reads: the spec, the checkpoint, the architecture that fits it, and the probe set."""
