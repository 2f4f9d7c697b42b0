"""The lenses: each looks at one operator of the model and returns a frozen reading."""
